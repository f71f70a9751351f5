"""The ladder to look at: its table, and what a rung changes in its parent."""

import difflib
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from crossover.errors import UserError
from crossover.targets import known_rung, needs_of, workers_of
from ladder.rungs import RUNGS, rung_module


def ladder_table() -> Table:
    table = Table("rung", "parent", "the one idea it adds", "needs", "workers", title="The ladder")
    for rung in RUNGS:
        module = rung_module(rung)
        needs = ", ".join(sorted(needs_of(rung))) or "–"
        table.add_row(rung, module.PARENT or "–", module.IDEA, needs, ", ".join(workers_of(rung)) or "–")
    return table


def source(rung: str) -> list[str]:
    file = rung_module(rung).__file__
    assert file is not None, "a rung is a file"
    return Path(file).read_text("utf-8").splitlines()


def rung_diff(rung: str) -> str:
    """A unified diff of a rung's file against its parent's."""
    parent = rung_module(known_rung(rung)).PARENT
    if parent is None:
        raise UserError(f"{rung} has no parent to differ from: choose another rung of {', '.join(RUNGS)}.")
    lines = difflib.unified_diff(
        source(parent), source(rung), f"ladder/{parent}.py", f"ladder/{rung}.py", lineterm="", n=3
    )
    return "\n".join(lines)


def show_diff(console: Console, rung: str) -> None:
    text = rung_diff(rung)
    if console.is_terminal:
        console.print(Syntax(text, "diff", theme="ansi_dark", background_color="default"))
    else:
        print(text)
