"""Shows the ladder as a table, and what a rung changes in its parent."""

import ast
import difflib
import inspect
import textwrap

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from crossover.errors import UserError
from crossover.targets import known_rung
from ladder.rung import Rung, rung, rungs

WIDE = 100  # columns
SAID = {"name", "parent", "idea", "cost", "options", "servers_in", "worker_names_in"}  # of itself and its variants


def ladder_table(width: int) -> Table:
    """Where it is narrow, without the columns that would break the others' words."""
    table = Table(
        title="The ladder", caption=None if width >= WIDE else "A wider terminal also shows servers and workers."
    )
    for name in ("rung", "parent"):
        table.add_column(name, no_wrap=True)
    for name in ("the one idea it adds", "what it costs", *(("servers", "workers") if width >= WIDE else ())):
        table.add_column(name)
    for one in rungs().values():
        parts = ([server.name for server in one.servers], one.worker_names) if width >= WIDE else ()
        table.add_row(one.name, one.parent or "–", one.idea, one.cost, *(", ".join(names) or "–" for names in parts))
    return table


def composition(one: Rung) -> list[str]:
    """The source of each part of a rung, its own or inherited, without what the rung says of itself."""
    parts: dict[str, list[str]] = {}
    for kind in reversed([kind for kind in type(one).__mro__ if Rung in kind.__mro__ and kind is not Rung]):
        lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
        (definition,) = ast.parse("\n".join(lines)).body
        assert isinstance(definition, ast.ClassDef)
        for part in definition.body:
            if name := name_of(part):
                parts[name] = lines[part.lineno - 1 : part.end_lineno]  # where its parent has it, if it has it
    return [line for name, lines in parts.items() if name not in SAID for line in lines]


def name_of(part: ast.stmt) -> str | None:
    match part:
        case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.Assign(targets=[ast.Tuple(elts=[ast.Name(id=name), *_])]):
            return name
    return None


def rung_diff(name: str) -> str:
    """A unified diff of a rung's composition against its parent's, below its idea and what it costs."""
    one = rung(known_rung(name))
    if one.parent is None:
        roots = [one.name for one in rungs().values() if one.parent is None]
        others = ", ".join(other for other in rungs() if other not in roots)
        raise UserError(f"{name} has no parent to differ from: choose one of {others}.")
    before, after = (f"ladder/{folder}/__init__.py" for folder in (one.parent, name))
    old, new = composition(rung(one.parent)), composition(one)
    return "\n".join([one.idea, one.cost, *difflib.unified_diff(old, new, before, after, lineterm="")])


def show_diff(console: Console, name: str) -> None:
    text = rung_diff(name)
    if console.is_terminal:
        console.print(Syntax(text, "diff", theme="ansi_dark", background_color="default"))
    else:
        print(text)
