"""Streams that a projector set aside because an event of theirs could not be applied: shown, and tried again."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cqrs_impl.ports import Parked
from cqrs_impl.projector import STORE_GONE, Projector
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
        serving.prepare(rung, built)
        try:
            return await question(serving.projector_of(rung, built))
        finally:
            await built.close()

    try:
        return asyncio.run(answer())
    except BadSetting as reason:
        raise UserError(str(reason)) from None
    except STORE_GONE as error:
        raise Fallen(f"A store of {rung} went away meanwhile ({type(error).__name__}): try again.") from None


def parked_table(rung: str, parked: Sequence[Parked]) -> Table:
    events = sum(one.events for one in parked)
    table = Table("stream", "version", "events waiting", "reason", title=f"Parked by {rung}: {events:,} events")
    for one in parked[:ROWS_MAX]:
        table.add_row(one.stream, str(one.version), str(one.events), escape(one.reason))
    if len(parked) > ROWS_MAX:
        table.add_row(f"… and {len(parked) - ROWS_MAX:,} more", "", "", "")
    return table
