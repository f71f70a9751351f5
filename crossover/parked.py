"""Streams that a projector set aside because an event of theirs could not be applied: shown, and tried again."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cqrs_impl.ports import Parked
from cqrs_impl.projector import STORE_GONE, Projector
from cqrs_impl.read.checkpoint import AnotherSource
from crossover.errors import Fallen, UserError
from ladder import serving
from ladder.environment import BadSetting, Environment

T = TypeVar("T")
ROWS_MAX = 50


def show_parked(console: Console, rung: str, env: dict[str, str]) -> None:
    """The parked streams, the first that waits first."""
    parked = ask(rung, env, Projector.parked)
    console.print(parked_table(rung, parked) if parked else f"Nothing of {rung} is parked.")


def replay_parked(console: Console, rung: str, env: dict[str, str]) -> None:
    """Try all again; `Fallen` when some cannot be applied still."""
    applied, parked = ask(rung, env, Projector.replay)
    console.print(f"{applied:,} parked events of {rung} were applied.")
    if parked:
        console.print(parked_table(rung, parked))
        raise Fallen("What cannot be applied stays parked: mend its cause, then replay again.")


def ask(rung: str, env: dict[str, str], question: Callable[[Projector], Coroutine[None, None, T]]) -> T:
    async def answer() -> T:
        built = Environment.from_environ(env)
        try:
            projector = serving.projector_of(rung, built)
            serving.check_redis(built)
            return await question(projector)
        finally:
            await built.close()

    try:
        return asyncio.run(answer())
    except BadSetting as reason:
        raise UserError(str(reason)) from None
    except AnotherSource:
        raise UserError(serving.ANOTHER_SOURCE) from None
    except psycopg.errors.UndefinedTable:
        raise UserError(f"There is nothing of {rung} at DATABASE_URL: serve it there first.") from None
    except STORE_GONE as error:
        raise Fallen(f"A store of {rung} went away meanwhile ({type(error).__name__}): try again.") from None


def parked_table(rung: str, parked: Sequence[Parked]) -> Table:
    events = sum(one.events for one in parked)
    whole = Column("stream", no_wrap=True, width=45)  # a name cut short could not be looked up
    waiting, reason = Column("events waiting", max_width=7), Column("reason", overflow="fold")
    table = Table(whole, "version", waiting, reason, title=f"Parked by {rung}; events: {events:,}")
    for one in parked[:ROWS_MAX]:
        table.add_row(one.stream, str(one.version), str(one.events), escape(one.reason))
    if len(parked) > ROWS_MAX:
        table.add_row(f"… and {len(parked) - ROWS_MAX:,} more", "", "", "")
    return table
