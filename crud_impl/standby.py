"""A streaming standby as one service knows it: whether reads may go there, and what it is known to have replayed.

A position is one in the primary's log: what a commit has flushed, what the standby has replayed. A history is the
cluster, its timeline, which a promotion begins, and the primary's start: it may have been restored to earlier. An
answer claims what was known to be replayed before it was read.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any

import psycopg

from contract.errors import StoreGone
from contract.messages import Query, QueryResult
from contract.position import Position, covers
from crud_impl.connections import Connect, Connection, Database
from crud_impl.session import WrongServer
from crud_impl.system import answer

AWAY = "The replica cannot be asked right now."
LAG_S_MAX, LAG_BYTES_MAX = 0.5, 16 << 20
# A probe costs as much as a few reads. All is well for longer than it is not; a pool without an idle connection asks
# for one at once, because the reads may wait for a standby that stands still.
PROBE_EVERY_S, CALM_S, PROBE_S_MAX, OPEN_S_MAX = 0.1, 1.0, 0.3, 1.0
POLLS = 3  # in a row, of what the standby has replayed, before the HTTP layer pauses
CONFLICTS = ("40001", "40P01")
# What is flushed after a commit contains it. A commit that does not wait for the disk is only in what was inserted;
# that may end in what nobody flushes yet, so it is no position to wait for otherwise.
NOW = """
SELECT to_hex(system_identifier) || 't' || lower(ltrim(left(pg_walfile_name(lsn), 8), '0')) || 's' ||
       to_hex((extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint), (lsn - '0/0')::bigint
FROM pg_control_system(), (SELECT CASE current_setting('synchronous_commit')
    WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn) AS now"""
REPLAYED = "SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0')::bigint"
BEGUN = "SELECT (checkpoint_lsn - '0/0')::bigint FROM pg_control_checkpoint()"  # with one, a recovery ends
INSTANCE = "SELECT pg_postmaster_start_time()::text"
PROBE = """
SELECT pg_is_in_recovery(), pg_postmaster_start_time()::text, to_hex(system_identifier) || 't' ||
       to_hex(coalesce((SELECT received_tli FROM pg_stat_wal_receiver), timeline_id)),
       (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0')::bigint
FROM pg_control_system(), pg_control_checkpoint()"""


async def now(primary: Database) -> Position:
    """A position that contains every commit acknowledged before."""
    ((history, lsn),) = await primary.rows(NOW, {})
    return Position(((lsn, 0),), history)


class Standby:
    """A standby as one service knows it. It is probed in the background; `unused` says why reads go elsewhere."""

    def __init__(self, connect: Connect, *, connections: int, timeout_s: float, name: str = "replica") -> None:
        self._connect, self.name = connect, name
        self._reads = Database(self._open, connections=connections, timeout_s=timeout_s, away=AWAY)
        self._probes = Database(self._open_unasked, connections=1, timeout_s=timeout_s, away=AWAY)
        self._opened = set[StandbyConnection]()
        self._probed, self._hurry = asyncio.Event(), asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self.unused = "it was not probed yet"
        # What the process that runs there is known to have replayed: started again after a crash, it begins earlier.
        self._instance, self._cluster, self._history, self._replayed = "", "", "", 0
        self._diverged = False  # whether it was ever ahead of the primary; how that goes on, positions do not tell
        self._due: int | None = None  # to be replayed before it is used again
        self._primary = Position(((0, 0),))
        self._begun = dict[str, int]()  # where each history of the primary began, in their order
        self._flushed = deque[tuple[float, int]](maxlen=1_000)  # when a position that is not replayed was first seen
        self._commands = deque[int](maxlen=100_000)  # the positions of ours that are not replayed

    # Reading

    async def answer(self, query: Query, wanted: Position | None) -> QueryResult:
        if wanted is not None and not await self._reached(wanted):
            return QueryResult(None, self._position)
        known = self._position  # before the snapshot
        if not self._reads.idle():
            self._hurry.set()
        try:
            result = await answer(self._reads.rows, query)
        except StoreGone as gone:
            if not cancelled(gone):
                self._gone(gone)
                raise
            result = await answer(self._reads.rows, query)
        return QueryResult(result.body, known)

    async def ask_replayed(self) -> None:
        try:
            ((replayed,),) = await self._reads.rows(REPLAYED, {})
        except StoreGone as gone:
            self._gone(gone)
            raise
        self._note(replayed)

    async def _reached(self, wanted: Position) -> bool:
        if wanted.history != self._history:
            return True  # for the HTTP layer to judge
        for _ in range(POLLS):
            if covers(self._position, wanted):
                return True
            await self.ask_replayed()
        return covers(self._position, wanted)

    @property
    def _position(self) -> Position:
        return Position(((self._replayed, 0),), self._history)

    def in_use(self) -> tuple[int, int]:
        return self._reads.in_use()

    def leads(self, token: Position, shown: Position) -> bool:
        """What was flushed before a history began is in it; what was before the first one, nobody knows any more."""
        known = [*self._begun]
        if token.history not in known or shown.history not in known or len(token.components) != 1:
            return False
        between = known[known.index(token.history) + 1 : known.index(shown.history) + 1]
        return bool(between) and all(token.components[0][0] <= self._begun[history] for history in between)

    # What is known of the lag

    def committed(self, position: Position) -> None:
        self._commands.append(position.components[0][0])
        self.flushed(position)

    def flushed(self, position: Position) -> None:
        lsn = position.components[0][0]
        self._primary = position
        if lsn > self._replayed and len(self._flushed) < 1_000:
            self._flushed.append((monotonic(), lsn))

    def _note(self, replayed: int) -> None:
        self._replayed = max(self._replayed, replayed)
        while self._flushed and self._flushed[0][1] <= self._replayed:
            self._flushed.popleft()
        while self._commands and self._commands[0] <= self._replayed:
            self._commands.popleft()

    def lag(self) -> tuple[int, float, int]:
        """Commands of this service, seconds, bytes."""
        lag_s = monotonic() - self._flushed[0][0] if self._flushed else 0.0
        return len(self._commands), round(lag_s, 3), max(0, self._primary.components[0][0] - self._replayed)

    # Watching

    async def watched(self, primary: Database) -> None:
        if self._watch is None:
            self._watch = asyncio.create_task(self._probe_for_ever(primary))
        elif self._watch.done():
            self._watch.result()
        if not self._probed.is_set():
            await self._probed.wait()

    async def _probe_for_ever(self, primary: Database) -> None:
        while True:
            replayed, flushed = self._replayed, None
            with contextlib.suppress(StoreGone):  # without a primary, what is replayed is all there is
                flushed = await now(primary)
                if flushed.history not in self._begun:
                    ((self._begun[flushed.history],),) = await primary.rows(BEGUN, {})
                    self._leave("the primary was started")
                self.flushed(flushed)
                if replayed > flushed.components[0][0] and self._cluster.split("t")[0] == flushed.history.split("t")[0]:
                    self._diverged = True
            due = self._due
            await self._probe(flushed)
            if due is None and self._due is not None:
                continue  # whether it is ahead shows when the primary is asked again
            self._probed.set()
            self._hurry.clear()
            calm = not self.unused and self.lag()[1] < PROBE_EVERY_S
            await asyncio.sleep(PROBE_EVERY_S)
            if calm:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CALM_S - PROBE_EVERY_S):
                        await self._hurry.wait()

    async def _probe(self, primary: Position | None) -> None:
        limit = asyncio.get_running_loop().call_later(PROBE_S_MAX, self._cut)
        try:
            ((standby, instance, cluster, replayed),) = await self._probes.rows(PROBE, {})
        except StoreGone as gone:
            return self._leave(gone.reason or gone.detail)
        finally:
            limit.cancel()
        if instance != self._instance:
            self._leave("it was started again")
            self._instance, self._replayed = instance, 0
        self._cluster = cluster
        self._note(replayed)
        _, lag_s, lag_bytes = self.lag()
        if not standby:
            self._leave("it was promoted")
        elif self._diverged:
            self._leave("it was ahead of the primary, so copy it anew and start this service again")
        elif cluster != self._primary.history.split("s")[0]:
            self._leave("it follows another history")
        elif lag_s > LAG_S_MAX or lag_bytes > LAG_BYTES_MAX:
            if not self.unused or self._due is None:
                self._leave(f"it is {lag_s:.1f} s and {lag_bytes:,} bytes behind")
        elif self.unused and self._due is None:
            self._due = primary.components[0][0] if primary else None
        elif self.unused and self._due is not None and replayed >= self._due:
            self.unused, self._history = "", self._primary.history

    def _gone(self, gone: StoreGone) -> None:
        if gone.reason:  # without one, all connections are busy
            self._leave(gone.reason)

    def _leave(self, reason: str) -> None:
        self.unused, self._due = reason, None

    # Connections

    async def _open(self, *, writing: bool) -> Connection:
        """For reads: only of the instance that was probed, and not while it is unused."""
        async with asyncio.timeout(OPEN_S_MAX):
            connection = await self._open_unasked(writing=False)
        try:
            ((instance,),) = await connection.rows(INSTANCE, {})
            if self.unused or instance != self._instance:
                raise WrongServer(self.unused or "it was started again")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _open_unasked(self, *, writing: bool) -> Connection:
        connection = StandbyConnection(await self._connect(writing=False), self._opened)
        self._opened.add(connection)
        return connection

    def _cut(self) -> None:
        """End what waits for it: a server that stands still says nothing, and a query that is cancelled asks it."""
        for connection in [*self._opened]:
            connection.cut()

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._reads.close()
        await self._probes.close()


class StandbyConnection:
    """A connection that notices a promotion: the server reports that setting with the answer of each statement."""

    def __init__(self, inner: Connection, opened: "set[StandbyConnection]") -> None:
        self._inner, self._opened, self.driver = inner, opened, inner.driver
        self.transact = inner.transact

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        found = await self._inner.rows(sql, params)
        if self.driver.pgconn.parameter_status(b"in_hot_standby") == b"off":  # `info` would decode both
            raise WrongServer("it was promoted")
        return found

    def cut(self) -> None:
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.driver.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        self._opened.discard(self)
        await self._inner.close()


def cancelled(gone: StoreGone) -> bool:
    """Whether recovery on the standby stood in the way of the statement."""
    return isinstance(gone.__cause__, psycopg.Error) and gone.__cause__.sqlstate in CONFLICTS
