"""The command line: each command reads as what it does, and each error is one sentence."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException

from crossover.errors import UserError, refusals
from crossover.flatten import flatten
from crossover.options import Options
from servers.server import Failed

app = typer.Typer(
    help="When does CQRS pay off over CRUD, and what does it cost? Measure it on this machine.",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
LOOK, COMPARE, TRUST, KEEP = "Look", "Compare", "Trust", "Keep and compare runs"

RungName = Annotated[str, typer.Argument(metavar="RUNG", help="A rung of the ladder: see `crossover rungs`.")]
Rungs = Annotated[str, typer.Option(help="Comma-separated list of rungs; the first is the baseline.")]
Urls = Annotated[
    list[str] | None, typer.Option("--url", metavar="NAME=URL", help="Your own server; `crossover doctor` names them.")
]
Token = Annotated[str | None, typer.Option(envvar="CROSSOVER_TOKEN", help="Bearer token required on every request.")]
Durability = Annotated[str, typer.Option(help="full, or relaxed: private servers acknowledge writes before disk.")]
ProfileName = Annotated[str, typer.Option(help="quick, standard or thorough.")]
ReadShares = Annotated[str, typer.Option(help="Comma-separated shares of reads, in percent.")]
Pids = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=PID[,PID]", help="Processes of an external target, whose CPU is its cost, children included."
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a run.")]
MixName = Annotated[str | None, typer.Option("--workload", help="A workload or a TOML file (default: the run's).")]
History = Annotated[Path | None, typer.Option(metavar="DIR", help="Directory of the runs of earlier gates.")]
NewFolder = Annotated[Path | None, typer.Option(help="Output directory (default: a new one under results/).")]


@app.callback()
def help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(rich_help_panel=LOOK)
def serve(
    rung: RungName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Other than loopback only with CROSSOVER_TOKEN set.")] = "127.0.0.1",
    size: Annotated[str, typer.Option(help="empty, s (10,000 orders), m (100,000) or l (1,000,000).")] = "empty",
    seed: Annotated[int, typer.Option(help="The same seed gives the same data everywhere.")] = 1,
    url: Urls = None,
    durability: Durability = "full",
    token: Token = None,
) -> None:
    """Serve a rung with its workers in the foreground, until Ctrl-C."""
    from crossover.progress import Steps
    from crossover.targets import serving
    from crossover.urls import given_urls

    with contextlib.ExitStack() as stack:
        with Steps("serve") as steps:
            urls = given_urls(url or ())
            served = serving(
                rung,
                host=host,
                port=port,
                urls=urls,
                token=token,
                size=size,
                seed=seed,
                durability=durability,
                progress=steps,
            )
            target = stack.enter_context(served)
        print(f"{rung} is served at {target.url}\nIts docs page is  {target.url}/docs\nCtrl-C stops it.", flush=True)
        while True:
            time.sleep(0.2)
            target.check()


@app.command(rich_help_panel=LOOK)
def rungs() -> None:
    """Show the ladder: each rung, its parent and the one idea it adds."""
    from crossover.ladder_view import ladder_table

    Console().print(ladder_table())


@app.command(rich_help_panel=LOOK)
def diff(rung: RungName) -> None:
    """Show what a rung changes in its parent's composition."""
    from crossover.ladder_view import show_diff

    show_diff(Console(soft_wrap=True), rung)


@app.command(rich_help_panel=LOOK)
def rebuild(rung: RungName, url: Urls = None) -> None:
    """Clear a rung's read store and rebuild it from its events, on your own servers."""
    from crossover.parked import rebuild_views
    from crossover.progress import Steps
    from crossover.urls import given_urls

    with Steps("rebuild") as steps:
        rebuilt = rebuild_views(rung, given_urls(url or ()), steps)
    print(f"The views of {rung} were rebuilt from {rebuilt:,} events.")


@app.command(rich_help_panel=LOOK)
def parked(rung: RungName, url: Urls = None) -> None:
    """Show the streams that are blocked because an event could not be applied, on your own servers."""
    from crossover.parked import kept_on, show_parked
    from crossover.urls import given_urls

    show_parked(Console(), rung, kept_on(rung, "Looking", given_urls(url or ())))


@app.command(rich_help_panel=LOOK)
def replay(rung: RungName, url: Urls = None) -> None:
    """Retry the parked events after the cause is fixed, on your own servers."""
    from crossover.parked import kept_on, replay_parked
    from crossover.urls import given_urls

    replay_parked(Console(), rung, kept_on(rung, "Replaying", given_urls(url or ())))


@app.command(rich_help_panel=LOOK)
def doctor(url: Urls = None) -> None:
    """Show which servers and versions would be used, what the machine offers, and what is missing."""
    from crossover.doctor import examine
    from crossover.urls import given_urls

    raise typer.Exit(0 if examine(Console(soft_wrap=True), given_urls(url or ())) else 1)


@app.command(rich_help_panel=COMPARE)
@flatten
def compare(
    context: typer.Context,
    options: Options,
    rungs: Annotated[str, typer.Option(help="Comma-separated list of rungs; empty for --target alone.")] = "crud,cqrs",
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="Your own service that speaks the contract.")
    ] = None,
    pids: Pids = None,
    read_shares: ReadShares = "50,80,95,99",
    profile: ProfileName = "quick",
    durability: Durability = "full",
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue a run that was stopped, with its own settings.")
    ] = None,
) -> None:
    """Compare rungs, and your own services, under the same load: the main job."""
    from crossover.compare import comparison, resumed
    from crossover.session import measure
    from crossover.show import show, write

    if resume is not None:
        given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
        if other := [name for name in given if name not in ("resume", "pids", "url", "token")]:
            raise UserError(f"A resumed run keeps its own settings: leave out --{other[0].replace('_', '-')}.")
        session = resumed(resume, pids=pids or (), url=options.url or (), token=options.token)
    else:
        session = comparison(
            options,
            rungs=rungs,
            targets=target or (),
            pids=pids or (),
            read_shares=read_shares,
            profile=profile,
            durability=durability,
        )
    measure(session)
    write(session.access.out)
    show(session.access.out)


@app.command(rich_help_panel=COMPARE)
@flatten
def costs(
    options: Options,
    rungs: Rungs = "crud,cqrs",
    operations: Annotated[
        str, typer.Option(help="Comma-separated operations to measure, or all (default: the workload's).")
    ] = "",
    profile: ProfileName = "quick",
) -> None:
    """Measure what each operation costs by itself, from which any mix of them can be predicted."""
    from crossover.costs import costs_of
    from crossover.session import measure
    from crossover.show import show, write

    session = costs_of(options, rungs=rungs, operations=operations, profile=profile)
    measure(session)
    write(session.access.out)
    show(session.access.out)


@app.command(rich_help_panel=COMPARE)
def predict(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run of `crossover costs`.")],
    workload: MixName = None,
    read_shares: ReadShares = "50,80,90,95,99",
    rate: Annotated[float | None, typer.Option(help="Operations per second (default: those of the run).")] = None,
    against: Annotated[list[Path] | None, typer.Option(help="A run of mixes to check the prediction against.")] = None,
) -> None:
    """Predict from a run of costs what a mix costs and where the rungs meet, or check that against a mixed run."""
    from crossover.costs import predict as show

    show(folder, workload, read_shares, rate, against or [])


@app.command(rich_help_panel=COMPARE)
def map(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="Runs of costs, one a size.")] = None,
    sizes: Annotated[str, typer.Option(help="Comma-separated sizes to measure first, for instance s,m.")] = "",
    rungs: Rungs = "crud,cqrs",
    workload: MixName = None,
    rate: Annotated[float | None, typer.Option(help="Operations per second (default: the workload's).")] = None,
    profile: ProfileName = "quick",
    out: Annotated[Path, typer.Option(help="Output directory of the map and its runs.")] = Path("results/map"),
) -> None:
    """Draw the map of read share by data size: who uses the least CPU where, and where that is inconclusive."""
    from crossover.costs import draw_map, measured

    options = Options(workload=workload or "shop", rate=rate)
    runs = measured(sizes, options, rungs=rungs, profile=profile, out=out)
    draw_map(runs + (folders or []), workload, rate, out)


@app.command(rich_help_panel=COMPARE)
@flatten
def capacity(
    options: Options,
    rung: Annotated[str, typer.Option(help="The rung to try: see `crossover rungs`.")] = "",
    target: Annotated[str | None, typer.Option(metavar="NAME=URL", help="Your own service, instead of a rung.")] = None,
    p95_ms: Annotated[float, typer.Option(help="95% of operations must be answered within this many ms.")] = 50.0,
    freshness_ms: Annotated[float, typer.Option(help="95% of writes must be visible within this many ms.")] = 100.0,
    read_share: Annotated[float | None, typer.Option(help="Reads, in percent (default: the workload's).")] = None,
) -> None:
    """Find the highest rate that meets a latency and a freshness target, and the writes a projector can follow."""
    from crossover.capacity import capacity_of
    from crossover.session import measure
    from crossover.show import show, write

    session = capacity_of(
        options, rung=rung, target=target, p95_ms=p95_ms, freshness_ms=freshness_ms, read_share=read_share
    )
    measure(session)
    write(session.access.out)
    show(session.access.out)


@app.command(rich_help_panel=COMPARE)
def plan(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run of compare or of capacity.")],
    read_share: Annotated[float, typer.Option(min=0, max=100, help="Reads, in percent of the operations.")],
    app: Annotated[int, typer.Option(min=1, help="Processes of the application.")] = 1,
    replicas: Annotated[int, typer.Option(min=0, help="Replicas of the store that answers the reads.")] = 0,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the projector.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of each machine.")] = 2,
) -> None:
    """Compute from measured costs how far each rung can go with more servers, and what limits it first."""
    from analysis.bounds import Servers, render
    from crossover.show import wide_console
    from crossover.urls import servers_of
    from ladder.rung import rungs

    one_core = frozenset(name for name, server in servers_of(rungs()).items() if server.one_core)
    servers = Servers(app, replicas, partitions, cores, one_core=one_core)
    wide_console().print(render(folder, read_share, servers))


@app.command(rich_help_panel=TRUST)
def gallery(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One mistake as a lesson (default: all).")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only list their names.")] = False,
) -> None:
    """Show the classic mistakes failing on real servers, and the remedy of each holding in the same scenario."""
    from crossover.gallery import MISTAKES
    from crossover.gallery.overview import listing, run_gallery
    from crossover.progress import Steps

    if list_only:
        return Console().print(listing())
    with Steps("gallery") as steps:
        show = run_gallery(Console(), [name] if name else MISTAKES, steps)
    show()


@app.command(rich_help_panel=KEEP)
def show(folder: Folder) -> None:
    """Show a run's table and where its files are; of a run that was stopped, how far it came."""
    from crossover.show import show as show_run

    show_run(folder)


@app.command(rich_help_panel=KEEP)
def report(folder: Folder) -> None:
    """Write a run's report and plots again, and show it."""
    from crossover.show import show as show_run
    from crossover.show import write

    write(folder)
    show_run(folder)


@app.command(rich_help_panel=KEEP)
def publish(folder: Folder) -> None:
    """Keep a run in results/published, compacted, and write the README's answer from it."""
    from crossover.publish import publish as keep

    keep(folder)


@app.command(rich_help_panel=TRUST)
def torture(
    rung: RungName,
    seconds: Annotated[float, typer.Option(min=1, help="Length of load and faults; checking comes after.")] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed schedules the same faults (default: random).")] = None,
    faults: Annotated[str, typer.Option(help="Comma-separated kinds of fault, or all.")] = "all",
    out: NewFolder = None,
) -> None:
    """Kill, pause and cut off a rung's parts under load, on private servers, and check that nothing is lost."""
    import secrets

    from crossover.torture.run import torture as run

    seed = secrets.randbelow(1_000_000) if seed is None else seed
    raise typer.Exit(0 if run(rung, seconds=seconds, seed=seed, faults=faults, out=out).clean else 1)


@app.command(rich_help_panel=KEEP)
def delta(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Directory of the run to compare with.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Directory of the run that is compared.")],
) -> None:
    """Compare two runs of the same thing: the CPU per operation of B over that of A."""
    from analysis.delta import compare, render
    from crossover.show import wide_console

    wide_console().print(render(compare(run_a, run_b)))


@app.command(rich_help_panel=KEEP)
@flatten
def gate(
    options: Options,
    base: Annotated[str, typer.Option(help="What is changed: a git revision, or NAME=URL.")],
    head: Annotated[str, typer.Option(help="The change: a git revision, or NAME=URL.")] = "HEAD",
    again: Annotated[str | None, typer.Option(metavar="NAME=URL", help="A second instance of a base at a URL.")] = None,
    pids: Pids = None,
    rung: Annotated[str, typer.Option(help="The rung that is served at both revisions.")] = "cqrs",
    read_shares: ReadShares = "90",
    profile: ProfileName = "standard",
    history: History = None,
) -> None:
    """Judge a change for CI: 0 same or better, 1 worse or wrong, 3 inconclusive."""
    from crossover.gate import gate_of, sides, verdict
    from crossover.session import measure

    compared = sides(base, head, again, rung)
    session = gate_of(options, compared, rung=rung, pids=pids or (), read_shares=read_shares, profile=profile)
    measure(session)
    raise typer.Exit(verdict(session.access.out, history))


@app.command(rich_help_panel=KEEP)
def ci_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs of compare or of gate.")],
    out: Annotated[Path, typer.Option(help="Directory for summary.md, benchmarks.json, verdicts.xml.")] = Path(
        "ci-report"
    ),
    benchmarks: Annotated[Path | None, typer.Option(metavar="FILE", help="What pytest --benchmark-json wrote.")] = None,
    history: History = None,
) -> None:
    """Write runs for CI: a Markdown summary, JSON for github-action-benchmark, JUnit XML of the verdicts."""
    from analysis.ci import write

    for path in write(runs, out, benchmarks=benchmarks, history=history):
        print(path)


@app.command(rich_help_panel=TRUST)
def calibrate(
    quick: Annotated[bool, typer.Option("--quick", help="A minute and a half: fewer starts, and +10% alone.")] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of identical and of planted targets, 4 min each; those in --out count.")
    ] = 1,
    out: NewFolder = None,
) -> None:
    """Measure what is known, truth beside measurement: can this machine be trusted, and for what differences?"""
    from crossover.calibrate import calibrate as run

    run(out, quick=quick, repeats=repeats)


class Stopped(BaseException):
    """A signal asked for the end; everything is stopped in order on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    sys.exit(outcome())


def outcome(words: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 something failed, 2 bad input, 128 + n stopped by a signal."""
    try:
        return int(app(words, standalone_mode=False) or 0)
    except TyperException as error:
        return say(f"{error.format_message().rstrip('.')}: see `crossover --help`.", 2)
    except Failed as error:
        return say(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except Stopped as stopped:
        return 128 + stopped.number
    except BrokenPipeError:  # the reader of our output has left: `crossover rungs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except refusals() as error:
        return say(str(error), 2)


def say(sentence: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True).print(f"[red]{escape(sentence)}[/red]", highlight=False)
    return code


if __name__ == "__main__":
    main()
