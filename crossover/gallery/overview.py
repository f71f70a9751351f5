"""How the gallery is shown: the list, the overview of all demos, and one mistake as a lesson with its evidence."""

import inspect
from collections.abc import Callable, Sequence
from textwrap import dedent
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markdown import Markdown
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from crossover.errors import Fallen
from crossover.gallery import MISTAKES, Demo, mistake, run_demo, title
from crossover.targets import Progress, start_servers
from servers.supervisor import Processes

LINES_MAX = 40


def listing() -> Table:
    table = Table("name", "the mistake", title="The gallery of mistakes", caption="crossover gallery NAME shows one")
    for name in MISTAKES:
        table.add_row(name, title(name))
    return table


def run_gallery(console: Console, names: Sequence[str], progress: Progress) -> Callable[[], None]:
    """Run the demos on private servers; returns what prints them, and raises `Fallen` if one went wrong."""
    for name in names:
        mistake(name)
    shown = []
    with Processes() as supervisor:
        progress("starting the servers", 0, len(names))
        urls = start_servers(supervisor, ["cqrs", "replica"])
        for done, name in enumerate(names):
            progress(f"showing {name}", done, len(names))
            shown.append(run_demo(name, urls))

    def show() -> None:
        console.print(lesson(shown[0]) if len(shown) == 1 else overview(shown))
        if amiss := [one.name for one in shown if not (one.caught and one.held)]:
            raise Fallen(f"Failed: {', '.join(amiss)}. A mistake did not show, or its remedy did not hold.")

    return show


def overview(shown: Sequence[Demo]) -> Table:
    table = Table(title="The gallery of mistakes", box=SIMPLE_HEAD)
    table.add_column("mistake", no_wrap=True)
    table.add_column("what went wrong")
    for column in ("how often", "remedied", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in shown:
        wrong = Text(f"{one.wrong.bad:,} of {one.wrong.of:,}", "red" if one.caught else "yellow")
        right = Text(f"{one.right.bad:,} of {one.right.of:,}", "green" if one.held else "bold red")
        table.add_row(one.name, happened(one), wrong, right, f"{one.seconds:.1f}")
    caught, held = sum(one.caught for one in shown), sum(one.held for one in shown)
    table.caption = f"{caught} of {len(shown)} mistakes shown, {held} of {len(shown)} remedies held; each has a lesson"
    return table


def happened(one: Demo) -> str:
    slower = f"; {one.wrong.cost_us / one.right.cost_us:.1f} times the time" if one.right.cost_us else ""
    return one.wrong.what + slower


def lesson(one: Demo) -> Group:
    module = mistake(one.name)
    first, _, rest = (module.__doc__ or "").partition("\n")
    wrong, right = (f"{evidence.bad:,} of {evidence.of:,}" for evidence in (one.wrong, one.right))
    seen = Text.assemble(
        (f"{wrong:>14}  ", "bold red"), happened(one), "\n", (f"{right:>14}  ", "bold green"), "with the remedy"
    )
    return Group(
        Text(first, "bold"),
        Text(),
        Markdown(rest.strip()),
        Text(),
        Panel(code(module.WRONG), title="the mistake", border_style="red"),
        Panel(code(getattr(module, "SHOWN", module.RIGHT)), title="the remedy", border_style="green"),
        Panel(seen, title=f"both in the same scenario, {one.seconds:.1f} s"),
        Text(f"The scenario is `show` in crossover/gallery/{one.name.replace('-', '_')}.py", "dim"),
    )


def code(part: Any) -> Syntax:
    if isinstance(part, str):
        return Syntax(part.strip(), "sql", background_color="default", word_wrap=True)
    if isinstance(part, dict):
        text = "\n".join(f"{name} = {value!r}" for name, value in part.items()) or "# nothing: these are the defaults"
        return Syntax(text, "python", background_color="default", word_wrap=True)
    lines = dedent(inspect.getsource(part)).splitlines()
    more = ["…"] if len(lines) > LINES_MAX else []
    return Syntax("\n".join(lines[:LINES_MAX] + more), "python", background_color="default", word_wrap=True)
