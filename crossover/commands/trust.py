"""Commands that show why results and rungs can be trusted: known mistakes, faults under load, known differences."""

from typing import Annotated

import typer
from rich.console import Console

from crossover import options as given
from crossover.progress import Steps


def gallery(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One mistake as a lesson (default: all).")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only list their names.")] = False,
) -> None:
    """Show the classic mistakes failing on real servers, and the remedy of each holding in the same scenario."""
    from crossover.gallery import MISTAKES
    from crossover.gallery.overview import listing, run_gallery

    if list_only:
        return Console().print(listing())
    with Steps("gallery") as steps:
        show = run_gallery(Console(), [name] if name else MISTAKES, steps)
    show()


def torture(
    rung: given.RungName,
    seconds: Annotated[float, typer.Option(min=1, help="Length of load and faults; checking comes after.")] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed schedules the same faults (default: random).")] = None,
    faults: Annotated[str, typer.Option(help="Comma-separated kinds of fault, all or none.")] = "all",
    rate: Annotated[float, typer.Option(min=1, max=1000, help="Operations per second; half are commands.")] = 80,
    clients: given.Clients = "idiomatic",
    out: given.NewFolder = None,
) -> None:
    """Kill, pause and cut off a rung's parts under load, on private servers, and check that nothing is lost."""
    import secrets

    from crossover.torture.run import torture as run

    seed = secrets.randbelow(1_000_000) if seed is None else seed
    found = run(rung, seconds=seconds, seed=seed, faults=faults, rate_per_s=rate, clients=clients, out=out)
    raise typer.Exit(0 if found.clean else 1)


def calibrate(
    quick: Annotated[bool, typer.Option("--quick", help="A minute and a half: fewer starts, and +10% alone.")] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of identical and of planted targets, 3 min each; those in --out count.")
    ] = 1,
    out: given.NewFolder = None,
) -> None:
    """Measure what is known, truth beside measurement: can this machine be trusted, and for what differences?"""
    from crossover.calibrate import calibrate as run

    run(out, quick=quick, repeats=repeats)
