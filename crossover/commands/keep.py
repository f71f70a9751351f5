"""Commands that show, keep, compare and judge the runs on disk."""

from pathlib import Path
from typing import Annotated

import typer

from crossover import options as given
from crossover import show as shown
from crossover.options import Options, flatten


def show(folder: given.Folder) -> None:
    """Show a run's table and where its files are; of a run that was stopped, how far it came."""
    shown.show(folder)


def report(folder: given.Folder) -> None:
    """Write a run's report and plots again, and show it."""
    shown.write(folder)
    shown.show(folder)


def publish(
    folder: given.Folder,
    beside: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The same run with other --clients, kept and quoted with it.")
    ] = None,
) -> None:
    """Keep a run in results/published, compacted, and write the README's answer from it."""
    from crossover.publish import publish as keep

    keep(folder, beside=beside)


def delta(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Directory of the run to compare with.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Directory of the run that is compared.")],
) -> None:
    """Compare two runs of the same thing: the CPU per operation of B over that of A."""
    from analysis.delta import compare, render

    shown.wide_console().print(render(compare(run_a, run_b)))


@flatten
def gate(
    options: Options,
    base: Annotated[str, typer.Option(help="What is changed: a git revision, or NAME=URL.")],
    head: Annotated[str, typer.Option(help="The change: a git revision, or NAME=URL.")] = "HEAD",
    again: Annotated[str | None, typer.Option(metavar="NAME=URL", help="A second instance of a base at a URL.")] = None,
    pids: given.Pids = None,
    rung: Annotated[str, typer.Option(help="The rung that is served at both revisions.")] = "cqrs",
    read_shares: given.ReadShares = "90",
    profile: given.ProfileName = "standard",
    history: given.History = None,
) -> None:
    """Judge a change for CI: 0 same or better, 1 worse or wrong, 3 inconclusive."""
    from analysis.gate import require_history
    from crossover.kinds import gate_of, sides
    from crossover.session import measure

    require_history(history)
    session = gate_of(options, sides(base, head, again, rung), rung, read_shares, profile, pids or ())
    measure(session)
    raise typer.Exit(shown.verdict(session.access.out, history))


def ci_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs of compare or of gate.")],
    out: Annotated[Path, typer.Option(help="Directory for summary.md, benchmarks.json, verdicts.xml.")] = Path(
        "ci-report"
    ),
    benchmarks: Annotated[Path | None, typer.Option(metavar="FILE", help="What pytest --benchmark-json wrote.")] = None,
    history: given.History = None,
) -> None:
    """Write runs for CI: a Markdown summary, JSON for github-action-benchmark, JUnit XML of the verdicts."""
    from analysis.ci import write

    for path in write(runs, out, benchmarks=benchmarks, history=history):
        print(path)
