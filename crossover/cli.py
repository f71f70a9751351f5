"""The command line: each command reads as what it does, and what goes wrong is said in one sentence."""

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

from crossover.errors import UserError
from servers.server import Failed, Unusable

app = typer.Typer(
    help="When does CQRS pay off over CRUD, and what does it cost? Measure it on this machine.",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)

RungName = Annotated[str, typer.Argument(metavar="RUNG", help="One of the ladder: see `crossover rungs`.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")]
Host = Annotated[str, typer.Option(help="Other than loopback only with CROSSOVER_TOKEN set.")]
Size = Annotated[str, typer.Option(help="empty, s (10 thousand orders), m (100 thousand) or l (1 million).")]
Seed = Annotated[int, typer.Option(help="The same seed names the same data everywhere.")]
DatabaseUrl = Annotated[str | None, typer.Option(envvar="DATABASE_URL", help="A PostgreSQL of yours, 14 or newer.")]
RedisUrl = Annotated[str | None, typer.Option(envvar="REDIS_URL", help="A Redis or Valkey of yours, with noeviction.")]
Durability = Annotated[str, typer.Option(help="full, or relaxed: PostgreSQL acknowledges before it has written.")]
Token = Annotated[str | None, typer.Option(envvar="CROSSOVER_TOKEN", help="What every request must then carry.")]
Rungs = Annotated[str, typer.Option(help="Rungs to compare, by commas; the first is the baseline.")]
WorkloadName = Annotated[str, typer.Option(help="shop, backoffice, checkout, or a TOML file.")]
Rate = Annotated[float | None, typer.Option(help="Operations a second; otherwise the workload's.")]
ProfileName = Annotated[str, typer.Option(help="quick, standard or thorough.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; otherwise a new one in results/.")]
Operations = Annotated[str, typer.Option(help="Whose costs to measure: all, or by commas; otherwise the workload's.")]
CostsRun = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of `crossover costs`.")]
MixName = Annotated[str | None, typer.Option("--workload", help="A workload, or a TOML file; otherwise the run's.")]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]


def urls_of(database_url: str | None, redis_url: str | None) -> dict[str, str]:
    """Server name → URL of the user's own servers."""
    return {name: url for name, url in (("postgres", database_url), ("redis", redis_url)) if url}


@app.callback()
def help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(rich_help_panel="Look")
def serve(
    rung: RungName,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    size: Size = "empty",
    seed: Seed = 1,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    durability: Durability = "full",
    token: Token = None,
) -> None:
    """Serve a rung with its workers in the foreground, until Ctrl-C."""
    from crossover.progress import Steps
    from crossover.targets import serving

    with contextlib.ExitStack() as stack:
        with Steps("serve") as steps:
            target = stack.enter_context(
                serving(
                    rung,
                    host=host,
                    port=port,
                    size=size,
                    seed=seed,
                    token=token,
                    urls=urls_of(database_url, redis_url),
                    durability=durability,
                    progress=steps,
                )
            )
        print(f"{rung} is served at {target.url}\nIts docs page is  {target.url}/docs\nCtrl-C stops it.", flush=True)
        while True:
            time.sleep(0.2)
            target.check()


@app.command(rich_help_panel="Look")
def rungs() -> None:
    """Show the ladder: each rung, its parent and the one idea it adds."""
    from crossover.ladder_view import ladder_table

    Console().print(ladder_table())


@app.command(rich_help_panel="Look")
def diff(rung: RungName) -> None:
    """Show what a rung changes in its parent's composition."""
    from crossover.ladder_view import show_diff

    show_diff(Console(soft_wrap=True), rung)


@app.command(rich_help_panel="Look")
def rebuild(rung: RungName, database_url: DatabaseUrl = None, redis_url: RedisUrl = None) -> None:
    """Clear a rung's read store and build it anew from its events, on servers of yours."""
    from crossover.parked import rebuild_views
    from crossover.progress import Steps

    with Steps("rebuild") as steps:
        rebuilt = rebuild_views(rung, urls_of(database_url, redis_url), steps)
    print(f"The views of {rung} were built anew from {rebuilt:,} events.")


@app.command(rich_help_panel="Look")
def parked(rung: RungName, database_url: DatabaseUrl = None, redis_url: RedisUrl = None) -> None:
    """Show the streams that wait because an event of theirs could not be applied, on servers of yours."""
    from crossover.parked import kept_on, show_parked

    show_parked(Console(), rung, kept_on(rung, "Looking", urls_of(database_url, redis_url)))


@app.command(rich_help_panel="Look")
def replay(rung: RungName, database_url: DatabaseUrl = None, redis_url: RedisUrl = None) -> None:
    """Try the parked streams again, once what was wrong is mended, on servers of yours."""
    from crossover.parked import kept_on, replay_parked

    replay_parked(Console(), rung, kept_on(rung, "Replaying", urls_of(database_url, redis_url)))


@app.command(rich_help_panel="Look")
def doctor(database_url: DatabaseUrl = None, redis_url: RedisUrl = None) -> None:
    """Show which servers and versions would be used, what the machine offers, and what is missing."""
    from crossover.doctor import examine

    raise typer.Exit(0 if examine(Console(soft_wrap=True), urls_of(database_url, redis_url)) else 1)


@app.command(rich_help_panel="Compare")
def compare(
    context: typer.Context,
    rungs: Annotated[str, typer.Option(help="Rungs to compare, by commas; empty for --target alone.")] = "crud,cqrs",
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="A service of yours that speaks the contract.")
    ] = None,
    pids: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PID[,PID]", help="Processes of a --target, whose CPU (with all their children's) is its cost."
        ),
    ] = None,
    workload: WorkloadName = "shop",
    read_shares: Annotated[str, typer.Option(help="Shares of reads, in per cent, by commas.")] = "50,80,95,99",
    rate: Rate = None,
    size: Size = "s",
    profile: ProfileName = "quick",
    seed: Seed = 1,
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with a run that was stopped, with its own settings.")
    ] = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    durability: Durability = "full",
    token: Token = None,
) -> None:
    """Compare rungs, and services of yours, under the same load: the main job."""
    from crossover.compare import compare as run
    from crossover.preflight import resumed, wanted

    if resume is not None:
        given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
        if other := [name for name in given if name not in ("resume", "pids", "database_url", "redis_url", "token")]:
            flag = "--" + other[0].replace("_", "-")
            raise UserError(f"A resumed run keeps its own settings: leave out {flag}.")
        return run(resumed(resume, pids=pids or [], database_url=database_url, redis_url=redis_url, token=token))
    wish = wanted(
        rungs=rungs,
        targets=target or [],
        pids=pids or [],
        workload=workload,
        read_shares=read_shares,
        rate_per_s=rate,
        size=size,
        profile=profile,
        seed=seed,
        out=out,
        database_url=database_url,
        redis_url=redis_url,
        durability=durability,
        token=token,
    )
    run(wish)


@app.command(rich_help_panel="Compare")
def costs(
    rungs: Rungs = "crud,cqrs",
    workload: WorkloadName = "shop",
    operations: Operations = "",
    rate: Rate = None,
    size: Size = "s",
    profile: ProfileName = "quick",
    seed: Seed = 1,
    out: Out = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Measure what each operation costs by itself, from which any mix of them can be predicted."""
    from crossover.compare import compare as run
    from crossover.costs import wanted_costs

    wish = {"rungs": rungs, "workload": workload, "rate_per_s": rate, "size": size, "profile": profile, "seed": seed}
    run(wanted_costs(operations, out=out, database_url=database_url, redis_url=redis_url, **wish))


@app.command(rich_help_panel="Compare")
def predict(
    folder: CostsRun,
    workload: MixName = None,
    read_shares: Annotated[str, typer.Option(help="Shares of reads, in per cent, by commas.")] = "50,80,90,95,99",
    rate: Annotated[float | None, typer.Option(help="Operations a second; otherwise those of the run.")] = None,
    against: Annotated[list[Path] | None, typer.Option(help="A run that measured mixes: how far are we off?")] = None,
) -> None:
    """Predict from a run of costs what a mix would cost and where the rungs meet, or check that against a mixed run."""
    from crossover.costs import predict as show

    show(folder, workload, read_shares, rate, against or [])


@app.command(rich_help_panel="Compare")
def map(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="Runs of costs, one a size.")] = None,
    sizes: Annotated[str, typer.Option(help="Sizes to measure first, by commas, for instance s,m.")] = "",
    rungs: Rungs = "crud,cqrs",
    workload: MixName = None,
    rate: Rate = None,
    profile: ProfileName = "quick",
    out: Annotated[Path, typer.Option(help="Folder of the map and of its runs.")] = Path("results/map"),
) -> None:
    """Draw the map of read share by data size: who needs the least CPU where, and where nobody can tell."""
    from crossover.costs import draw_map, measured

    runs = measured(sizes, rungs, workload or "shop", rate, profile, out) + (folders or [])
    draw_map(runs, workload, rate, out)


@app.command(rich_help_panel="Compare")
def capacity(
    rung: Annotated[str, typer.Option(help="The rung to try: see `crossover rungs`.")] = "",
    target: Annotated[
        str | None, typer.Option(metavar="NAME=URL", help="Instead of a rung, a service of yours.")
    ] = None,
    p95_ms: Annotated[float, typer.Option(help="95 % of operations are to be answered within this.")] = 50.0,
    freshness_ms: Annotated[float, typer.Option(help="95 % of writes are to be seen after this.")] = 100.0,
    workload: WorkloadName = "shop",
    read_share: Annotated[float | None, typer.Option(help="Reads in per cent; otherwise the workload's.")] = None,
    size: Size = "s",
    seed: Seed = 1,
    out: Out = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    token: Token = None,
) -> None:
    """Find the highest rate that keeps a latency and a freshness, and the write rate that a projector cannot follow."""
    from crossover.capacity import wanted_capacity
    from crossover.compare import compare as run

    servers = {"database_url": database_url, "redis_url": redis_url, "token": token}
    wish = {"workload": workload, "size": size, "seed": seed, "out": out} | servers
    run(wanted_capacity(rung, target, p95_ms, freshness_ms, read_share, **wish))


@app.command(rich_help_panel="Compare")
def plan(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of compare.")],
    read_share: Annotated[float, typer.Option(min=0, max=100, help="Reads in per cent of the operations.")],
    app: Annotated[int, typer.Option(min=1, help="Processes of the application.")] = 1,
    replicas: Annotated[int, typer.Option(min=0, help="Replicas of the store that answers the reads.")] = 0,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the projector.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of each machine.")] = 2,
) -> None:
    """Compute from measured costs how far each rung could go with more servers, and what limits it first."""
    from analysis.bounds import Servers, render
    from crossover.compare import usable, wide_console

    with usable():
        servers = Servers(app, replicas, partitions, cores, one_core=frozenset({"redis"}))
        wide_console().print(render(folder, read_share, servers))


@app.command(rich_help_panel="Trust")
def gallery(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One mistake as a lesson; all without it.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only name them.")] = False,
) -> None:
    """Show the classic mistakes failing on real servers, and the remedy of each holding in the same scenario."""
    from crossover.gallery import MISTAKES
    from crossover.gallery.tour import listing, visit
    from crossover.progress import Steps

    if list_only:
        return Console().print(listing())
    with Steps("gallery") as steps:
        show = visit(Console(), [name] if name else MISTAKES, steps)
    show()


@app.command(rich_help_panel="Keep and compare runs")
def show(folder: Folder) -> None:
    """Show a run's table and where its files are; of a run that was stopped, how far it came."""
    from crossover.compare import show as show_run

    show_run(folder)


@app.command(rich_help_panel="Keep and compare runs")
def report(folder: Folder) -> None:
    """Write a run's report and plots again, and show it."""
    from crossover.compare import show as show_run
    from crossover.compare import write

    write(folder)
    show_run(folder)


@app.command(rich_help_panel="Keep and compare runs")
def publish(folder: Folder) -> None:
    """Keep a run in results/published, compacted, and write the README's answer from it."""
    from crossover.publish import publish as keep

    keep(folder)


@app.command(rich_help_panel="Trust")
def torture(
    rung: RungName,
    seconds: Annotated[float, typer.Option(min=1, help="How long load and faults last; checking comes after.")] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed deals the same faults; otherwise a new one.")] = None,
    faults: Annotated[str, typer.Option(help="all, or kinds of fault by commas.")] = "all",
    out: Annotated[Path | None, typer.Option(help="Folder of the history; otherwise a new one in results/.")] = None,
) -> None:
    """Kill, pause and cut off a rung's parts under load, on private servers, and check that nothing is lost."""
    import secrets

    from crossover.torture.run import torture as run

    seed = secrets.randbelow(1_000_000) if seed is None else seed
    raise typer.Exit(0 if run(rung, seconds=seconds, seed=seed, faults=faults, out=out).clean else 1)


@app.command(rich_help_panel="Keep and compare runs")
def delta(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The folder of the run to compare with.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The folder of the run that is compared.")],
) -> None:
    """Compare two runs of the same thing: the CPU per operation of B over that of A."""
    from analysis.delta import compare, render
    from crossover.compare import usable, wide_console

    with usable():
        wide_console().print(render(compare(run_a, run_b)))


@app.command(rich_help_panel="Keep and compare runs")
def gate(
    base: Annotated[str, typer.Option(help="What is changed: a git revision, or NAME=URL.")],
    head: Annotated[str, typer.Option(help="The change: a git revision, or NAME=URL.")] = "HEAD",
    again: Annotated[str | None, typer.Option(metavar="NAME=URL", help="A second instance of a base at a URL.")] = None,
    pids: Annotated[list[str] | None, typer.Option(metavar="NAME=PID[,PID]", help="As in compare.")] = None,
    rung: Annotated[str, typer.Option(help="The rung that is served at both revisions.")] = "cqrs",
    workload: WorkloadName = "shop",
    read_shares: Annotated[str, typer.Option(help="Shares of reads, in per cent, by commas.")] = "90",
    rate: Rate = None,
    size: Size = "s",
    profile: ProfileName = "standard",
    seed: Seed = 1,
    history: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of earlier gates' runs.")] = None,
    out: Out = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    token: Token = None,
) -> None:
    """Judge a change for CI: 0 same or better, 1 worse or wrong, 3 inconclusive."""
    from dataclasses import replace

    from crossover.gate import gate as run
    from crossover.gate import sides
    from crossover.preflight import wanted

    revisions, addresses = sides(base, head, again, rung)
    wish = wanted(
        rungs=rung if revisions else "",
        targets=addresses,
        pids=pids or [],
        workload=workload,
        read_shares=read_shares,
        rate_per_s=rate,
        size=size,
        profile=profile,
        seed=seed,
        out=out,
        database_url=database_url,
        redis_url=redis_url,
        token=token,
    )
    raise typer.Exit(run(replace(wish, kind="gate", rungs=dict.fromkeys(revisions, rung)), revisions, history))


@app.command(rich_help_panel="Keep and compare runs")
def ci_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, of compare or of gate.")],
    out: Annotated[Path, typer.Option(help="Folder for summary.md, benchmarks.json and verdicts.xml.")] = Path(
        "ci-report"
    ),
    benchmarks: Annotated[Path | None, typer.Option(metavar="FILE", help="What pytest --benchmark-json wrote.")] = None,
    history: Annotated[Path | None, typer.Option(metavar="DIR", help="As in gate.")] = None,
) -> None:
    """Write runs for CI: a Markdown summary, JSON for github-action-benchmark, JUnit XML of the verdicts."""
    from analysis.ci import write
    from crossover.compare import usable

    with usable():
        for path in write(runs, out, benchmarks=benchmarks, history=history):
            print(path)


@app.command(rich_help_panel="Trust")
def calibrate(
    quick: Annotated[bool, typer.Option("--quick", help="A minute and a half: fewer starts, and +10 % alone.")] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of identical and of planted targets, 4 min each; those in --out count.")
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of its runs; otherwise a new one in results/.")] = None,
) -> None:
    """Measure what is known, truth beside measurement: can this machine be trusted, and for what differences?"""
    from crossover.calibrate import calibrate as run

    run(out, quick=quick, repeats=repeats)


class Stopped(BaseException):
    """A signal asked for the end; the stack is left in order on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    sys.exit(outcome())


def outcome() -> int:
    """The exit code: 0 done, 1 something failed, 2 bad input, 128 + n stopped by a signal."""
    try:
        return int(app(standalone_mode=False) or 0)
    except Unusable as error:
        return say(str(error), 2)
    except TyperException as error:
        return say(f"{error.format_message().rstrip('.')}: see `crossover --help`.", 2)
    except Failed as error:
        return say(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except Stopped as stopped:
        return 128 + stopped.number
    except BrokenPipeError:  # whoever read our output left: `crossover rungs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def say(sentence: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True).print(f"[red]{escape(sentence)}[/red]", highlight=False)
    return code


if __name__ == "__main__":
    main()
