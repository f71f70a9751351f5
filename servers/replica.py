"""Streaming standbys of PostgreSQL: private ones copied from the private primary, or any by their URLs."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from servers.embedded import SETTINGS, binaries, owner
from servers.postgres import POSTGRES, Postgres
from servers.server import SERVER_ENV, Failed, Unusable
from servers.supervisor import Processes

FOLLOW_S_MAX, LOAD_S_MAX = 10.0, 300.0
# Flushed whatever the durability is, because the standby receives only what is flushed.
MARKER = "SELECT pg_logical_emit_message(true, 'crossover', '')"
# Dropped as soon as nobody receives by it: no row once it is gone.
SLOT = """
SELECT CASE WHEN NOT active THEN pg_drop_replication_slot(slot_name) END
FROM pg_replication_slots WHERE slot_name = %s"""
CLUSTER = "SELECT system_identifier FROM pg_control_system()"
FLUSHED = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint"
REPLAYED = "SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0')::bigint"


class Replica(Postgres):
    standby, source = True, POSTGRES.name
    refusals = ()  # it takes no writes as it is
    settings: Mapping[str, str] = SETTINGS | {
        "hot_standby": "on",
        "hot_standby_feedback": "off",  # a long read here holds up no vacuum there: it can be cancelled instead
        "max_standby_streaming_delay": "5s",
        "wal_retrieve_retry_interval": "100ms",  # after the primary was away
        **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),  # 0.2 s to start instead of 1.5
    }

    def __init__(self, number: int = 1) -> None:
        which = f"_{number}" if number > 1 else ""
        self.name, self.variable = f"replica{which}", f"REPLICA{which}_URL"
        self.title = "PostgreSQL standby" + which.replace("_", " ")
        self.wrong_role = (
            f"{self.variable} leads to no standby: give the address of a streaming standby of the database at"
            " DATABASE_URL."
        )

    def start(self, run: Processes, *, durability: str = "full") -> str:
        """Takes about a second. It follows the private primary of the same supervisor."""
        if POSTGRES.name not in run.pids:
            raise Unusable(f"Set {self.variable} too: a private standby follows a private primary only.")
        account = self._make_folders(run)
        copy: list[str | Path] = [binaries() / "pg_basebackup", "-h", run.sockets / POSTGRES.name]
        copy += ["-U", "crossover", "-D", self.data_folder(run), "-X", "stream", "-c", "fast", "--no-sync"]
        copy += ["--no-manifest", "--no-verify-checksums"]  # of what the primary has just written
        copy += ["-R", "-C", "-S", self.name]  # what it takes to follow, and the slot that keeps the log for it
        if run.run("pg_basebackup", copy, env=SERVER_ENV, account=account) != 0:
            raise Failed(f"The primary could not be copied:\n{run.last_lines('pg_basebackup')}")
        return self.restart(run, durability=durability)

    def follow(self, url: str, primary: str, within_s: float = FOLLOW_S_MAX) -> None:
        """Wait until it has replayed all that the primary holds now; `Unusable` if it does not."""
        with POSTGRES._connect(primary) as there, self._connect(url) as here:
            if _first(there, CLUSTER) != _first(here, CLUSTER):
                raise Unusable(
                    f"The standby at {self.variable} is of another cluster than the database at DATABASE_URL: give one"
                    " that follows it."
                )
            replayed = _first(here, REPLAYED)
            if replayed > _first(there, FLUSHED):
                raise Unusable(
                    f"The standby at {self.variable} is ahead of the database at DATABASE_URL, so it follows another"
                    " history of it: copy it anew with pg_basebackup."
                )
            there.execute("SET synchronous_commit = on")
            there.execute(MARKER)
            wanted, deadline_s = _first(there, FLUSHED), time.monotonic() + within_s
            while _first(here, REPLAYED) < wanted:
                if time.monotonic() > deadline_s:
                    raise Unusable(
                        f"The standby at {self.variable} has not replayed within {within_s:g} s what was written to"
                        " the database at DATABASE_URL: start its replication, or give one that follows it."
                    )
                time.sleep(0.005)

    def drop(self, url: str, namespace: str) -> None:
        """What is dropped on the primary is gone here too."""

    def namespaces(self, url: str, beginning: str) -> Iterator[str]:
        """They are the primary's."""
        return iter(())

    # Faults

    def receive_by(self, run: Processes, folder: Path) -> None:
        if account := owner():
            for path in (folder, self.socket(folder)):
                os.chown(path, account.pw_uid, account.pw_gid)
        setting = sql.SQL("ALTER SYSTEM SET primary_conninfo = {}").format(f"host={folder} user=crossover")
        with self._connect(self.url_in(run.sockets / self.name)) as connection:
            connection.execute(setting)
            connection.execute("SELECT pg_reload_conf()")

    def copy_again(self, run: Processes) -> None:
        self._emptied(run)
        with POSTGRES._connect(POSTGRES.url_in(run.sockets / POSTGRES.name)) as connection:
            run.wait(lambda: not connection.execute(SLOT, [self.name]).rowcount, "the end of its slot", FOLLOW_S_MAX)
        self.start(run)

    @contextlib.contextmanager
    def falling_behind(self, run: Processes) -> Iterator[None]:
        url = self.url_in(run.sockets / self.name)
        with self._connect(url) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            with self._connect(url) as connection:
                connection.execute("SELECT pg_wal_replay_resume()")


def _first(connection: psycopg.Connection, sql: str) -> int:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None, "one row"
    return int(row[0])


REPLICAS = tuple(map(Replica, range(1, 5)))
REPLICA = REPLICAS[0]
