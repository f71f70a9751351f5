"""Rebuilds views and replays dead letters on the user's own servers; private servers end with their command."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from contract.errors import StoreGone, WorkerError
from cqrs_impl.dead_letters import blocked_in, replay_in
from crossover.errors import Fallen, UserError
from crossover.targets import Progress, Target, known_rung, target_env
from ladder.environment import Environment
from ladder.rung import DeadLetters, rung
from servers.server import Holding, namespace_of
from servers.supervisor import Processes

ROWS_MAX = 50
T = TypeVar("T")


class NobodyApplies(UserError):
    pass


def kept_on(rung_name: str, doing: str, urls: Mapping[str, str]) -> dict[str, str]:
    """The variables of what a rung keeps on servers of the user's, which are checked."""
    servers = rung(known_rung(rung_name)).servers
    missing = [server.variable for server in servers if server.name not in urls]
    if not servers:
        raise UserError(f"{rung_name} keeps nothing in a server, so there is nothing to rebuild or replay.")
    if missing:
        raise UserError(
            f"{doing} needs your own servers, as private ones end with their command: set {' and '.join(missing)}."
        )
    for server in servers:
        server.check(urls[server.name])
    return target_env(rung_name, urls, namespace=namespace_of(rung_name))


def rebuild_views(rung_name: str, urls: Mapping[str, str], progress: Progress, *, live: bool = False) -> int:
    """Build the views anew, `live` beside those that answer; returns how many events or rows that took."""
    env = kept_on(rung_name, "Rebuilding", urls)
    if live:
        require_any(rung_name, env)
    with Processes() as supervisor:
        target = Target(rung_name, rung_name, env, supervisor)
        if not live:
            target.prepare()
        return target.rebuild(progress, live=live)


def require_any(rung_name: str, env: Mapping[str, str]) -> None:
    """Refuse servers on which nothing was made for this rung."""
    built = Environment(env)
    for server in rung(rung_name).servers:
        if isinstance(server, Holding) and not server.holds(built.url(server), built.namespace):
            raise UserError(f"There is nothing of {rung_name} on these servers: serve it there first.")


def show_parked(console: Console, rung_name: str, env: Mapping[str, str]) -> None:
    """The blocked streams, the first that waits first."""
    parked = ask(rung_name, env, blocked_in)
    console.print(parked_table(rung_name, parked) if parked else f"Nothing of {rung_name} is parked.")


def events_parked(rung_name: str, urls: Mapping[str, str]) -> int:
    """How many events the views lack; a rung whose commands write its views lacks none."""
    env = kept_on(rung_name, "Looking", urls)
    try:
        return sum(one.events for one in ask(rung_name, env, blocked_in))
    except NobodyApplies:
        return 0


def replay_parked(console: Console, rung_name: str, env: Mapping[str, str]) -> None:
    """Try all again; `Fallen` when some cannot be applied still."""
    applied, parked = ask(rung_name, env, replay_in)
    console.print(f"{applied:,} parked events of {rung_name} were applied.")
    if parked:
        console.print(parked_table(rung_name, parked))
        raise Fallen("What cannot be applied stays parked: remove the cause, then replay again.")


def ask(rung_name: str, env: Mapping[str, str], question: Callable[[Sequence[DeadLetters]], Awaitable[T]]) -> T:
    """Put a question to the workers of a rung that keep dead letters."""
    require_any(rung_name, env)

    async def answer() -> T:
        workers = rung(rung_name).workers(Environment(env)).values()
        letters = [worker for worker in workers if isinstance(worker, DeadLetters)]
        if not letters:
            raise NobodyApplies(f"{rung_name} has no worker that applies events, so none can be parked.")
        try:
            return await question(letters)
        finally:
            for each in letters:
                await each.close()

    try:
        return asyncio.run(answer())
    except WorkerError as reason:
        raise UserError(str(reason)) from None
    except StoreGone as error:
        raise Fallen(f"A server of {rung_name} went away meanwhile ({error.reason}): try again.") from None


def ask_log(rung_name: str, env: Mapping[str, str], question: Callable[[Any], Awaitable[T]]) -> T:
    """Put a question to the log that all of those workers read."""
    return ask(rung_name, env, lambda workers: question(workers[0].log))  # type: ignore[attr-defined]


def parked_table(rung_name: str, parked: Sequence[Any]) -> Table:
    events = sum(one.events for one in parked)
    whole = Column("stream, and why it waits", min_width=45, overflow="fold")  # a name cut short could not be looked up
    title = f"Parked by {rung_name}; events: {events:,}"
    table = Table(whole, "version", Column("events waiting", max_width=7), title=title, show_lines=True)
    for one in parked[:ROWS_MAX]:
        table.add_row(f"{one.stream}\n{escape(one.reason)}", str(one.version), str(one.events))
    if len(parked) > ROWS_MAX:
        table.add_row(f"… and {len(parked) - ROWS_MAX:,} more", "", "")
    return table
