"""The ladder to look at: its table, and what a rung changes in its parent."""

import difflib
import inspect

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from crossover.errors import UserError
from crossover.targets import known_rung
from ladder.rung import rung, rungs


def ladder_table() -> Table:
    table = Table("rung", "parent", "the one idea it adds", "servers", "workers", title="The ladder")
    for one in rungs().values():
        servers = ", ".join(server.name for server in one.servers) or "–"
        table.add_row(one.name, one.parent or "–", one.idea, servers, ", ".join(one.worker_names) or "–")
    return table


def source(name: str) -> list[str]:
    """The composition of a rung."""
    return (inspect.getsource(inspect.getmodule(type(rung(name))) or type(rung(name)))).splitlines()


def rung_diff(name: str) -> str:
    """A unified diff of a rung's composition against its parent's."""
    parent = rung(known_rung(name)).parent
    if parent is None:
        roots = [one.name for one in rungs().values() if one.parent is None]
        others = ", ".join(other for other in rungs() if other not in roots)
        raise UserError(f"{name} has no parent to differ from: choose one of {others}.")
    before, after = (f"ladder/{one}/__init__.py" for one in (parent, name))
    return "\n".join(difflib.unified_diff(source(parent), source(name), before, after, lineterm=""))


def show_diff(console: Console, name: str) -> None:
    text = rung_diff(name)
    if console.is_terminal:
        console.print(Syntax(text, "diff", theme="ansi_dark", background_color="default"))
    else:
        print(text)
