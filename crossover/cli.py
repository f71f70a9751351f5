"""The command line: one short function per command; each error is one sentence."""

import contextlib
import importlib.metadata
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from typer.exceptions import TyperException

from analysis.legible import legible
from crossover import options as given
from crossover import show as shown
from crossover import start
from crossover.errors import DEBUG, UserError, bug, drivers_errors, refusals, refused_by_system, without_passwords
from crossover.options import Options, flatten
from crossover.progress import Steps
from servers.server import Failed

if TYPE_CHECKING:
    from crossover.planning import Session

app = typer.Typer(
    help="When does CQRS pay off over CRUD, and what does it cost? Measure it on this machine.",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
LOOK, COMPARE, TRUST, KEEP = "Look", "Compare", "Trust", "Keep and compare runs"


def show_version(asked: bool) -> None:
    if asked:
        print(f"crossover {importlib.metadata.version('crossover')}")
        raise typer.Exit


@app.callback()
def help_without_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(rich_help_panel=LOOK)
def serve(
    rung: given.RungName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Other than loopback only with CROSSOVER_TOKEN set.")] = "127.0.0.1",
    size: given.Size = "empty",
    seed: given.Seed = 1,
    url: given.Urls = None,
    durability: given.Durability = "full",
    clients: given.Clients = "idiomatic",
    token: given.Token = None,
) -> None:
    """Serve a rung with its workers in the foreground, until Ctrl-C."""
    from crossover.targets import serving
    from crossover.urls import given_urls

    with contextlib.ExitStack() as stack:
        with Steps("serve") as steps:
            served = serving(
                rung,
                host=host,
                port=port,
                urls=given_urls(url or ()),
                token=token,
                size=size,
                seed=seed,
                durability=durability,
                clients=clients,
                progress=steps,
            )
            target = stack.enter_context(served)
        shown.served(rung, target.url, size, seed, token)
        while True:
            time.sleep(0.2)
            target.check()


@app.command(rich_help_panel=LOOK)
def rungs() -> None:
    """Show the ladder: each rung, its parent and the one idea it adds."""
    from crossover.ladder_view import ladder_table

    console = shown.wide_console()
    console.print(ladder_table(console.width))


@app.command(rich_help_panel=LOOK)
def diff(rung: given.RungName) -> None:
    """Show what a rung changes in its parent's composition."""
    from crossover.ladder_view import show_diff

    show_diff(Console(soft_wrap=True), rung)


@app.command(rich_help_panel=LOOK)
def rebuild(
    rung: given.RungName,
    url: given.Urls = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Build new views beside the present ones, then switch; after Ctrl-C it goes on."),
    ] = False,
) -> None:
    """Clear a rung's read store and rebuild it from its events, on your own servers."""
    from crossover.parked import events_parked, rebuild_views
    from crossover.urls import given_urls

    urls = given_urls(url or ())
    with Steps("rebuild") as steps:
        rebuilt = rebuild_views(rung, urls, steps, live=live)
    print(f"The views of {rung} were rebuilt from {rebuilt:,} events{' while they answered' if live else ''}.")
    if parked := events_parked(rung, urls):
        print(f"{parked:,} of them cannot be applied: `crossover parked {rung}` shows why.")


@app.command(rich_help_panel=LOOK)
def history(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The id of an order.")],
    rung: Annotated[str, typer.Option(help="A rung that keeps its events.")] = "event_sourced",
    url: given.Urls = None,
) -> None:
    """Show the life of an order and what each event changed in which view, on your own servers."""
    from crossover.history import keeping_events, life_of, order_id, show_life
    from crossover.parked import kept_on
    from crossover.urls import given_urls

    id, rung = order_id(order), keeping_events(rung)
    env = kept_on(rung, "Looking", given_urls(url or ()))
    with Steps("history") as steps:
        life = life_of(rung, id, env, steps)
    show_life(shown.wide_console(), rung, id, life)


@app.command(rich_help_panel=LOOK)
def parked(rung: given.RungName, url: given.Urls = None) -> None:
    """Show the streams that are blocked because an event could not be applied, on your own servers."""
    from crossover.parked import kept_on, show_parked
    from crossover.urls import given_urls

    show_parked(Console(), rung, kept_on(rung, "Looking", given_urls(url or ())))


@app.command(rich_help_panel=LOOK)
def replay(rung: given.RungName, url: given.Urls = None) -> None:
    """Retry the parked events after the cause is fixed, on your own servers."""
    from crossover.parked import kept_on, replay_parked
    from crossover.urls import given_urls

    replay_parked(Console(), rung, kept_on(rung, "Replaying", given_urls(url or ())))


@app.command(rich_help_panel=LOOK)
def doctor(url: given.Urls = None) -> None:
    """Show which servers and versions would be used, what the machine offers, and what is missing."""
    from crossover.doctor import examine
    from crossover.urls import given_urls

    raise typer.Exit(0 if examine(Console(soft_wrap=True), given_urls(url or ())) else 1)


servers_app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(servers_app, name="servers", rich_help_panel=LOOK)


@servers_app.callback(invoke_without_command=True)
def servers(context: typer.Context) -> None:
    """Show which servers are there, their versions and where from, and what brings those that are missing."""
    from crossover.installing import server_table

    if context.invoked_subcommand is None:
        Console().print(server_table())


@servers_app.command()
def install(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Servers: see `crossover servers`.")],
) -> None:
    """Fetch pinned and checked artifacts of servers into your cache folder: 80 to 90 MB each, once."""
    from crossover.installing import install as fetch

    fetch(names, Console())


@app.command(rich_help_panel=COMPARE)
@flatten
def compare(
    context: typer.Context,
    options: Options,
    rungs: Annotated[str, typer.Option(help="Comma-separated list of rungs; empty for --target alone.")] = "crud,cqrs",
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="Your own service that speaks the contract.")
    ] = None,
    pids: given.Pids = None,
    read_shares: given.ReadShares = "50,80,95,99",
    profile: given.ComparisonProfile = "quick",
    durability: given.Durability = "full",
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue a run that was stopped, with its own settings.")
    ] = None,
) -> None:
    """Compare rungs, and your own services, under the same load: the main job."""
    from crossover.kinds import comparison, resumed

    if resume is None:
        return finish(comparison(options, rungs, target or (), pids or (), read_shares, profile, durability))
    typed = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if other := [name for name in typed if name not in ("resume", "target", "pids", "url", "token")]:
        raise UserError(f"A resumed run keeps its own settings: leave out --{other[0].replace('_', '-')}.")
    finish(resumed(resume, pids or (), options.url or (), options.token, target or ()))


def finish(session: "Session") -> None:
    """Measure a session, write its report and plots, and show it."""
    from crossover.session import measure

    measure(session, shown.write)
    shown.show(session.access.out)


@app.command(rich_help_panel=COMPARE)
@flatten
def costs(
    options: Options,
    rungs: given.Rungs = "crud,cqrs",
    operations: Annotated[
        str, typer.Option(help="Comma-separated operations to measure, or all (default: the workload's).")
    ] = "",
    profile: given.ProfileName = "quick",
) -> None:
    """Measure what each operation costs by itself, from which any mix of them can be predicted."""
    from crossover.kinds import costs_of

    finish(costs_of(options, rungs, operations, profile))


@app.command(rich_help_panel=COMPARE)
def predict(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run of `crossover costs`.")],
    workload: given.MixName = None,
    read_shares: given.ReadShares = "50,80,90,95,99",
    rate: Annotated[float | None, typer.Option(help="Operations per second (default: the workload's).")] = None,
    against: Annotated[list[Path] | None, typer.Option(help="A run of compare to show beside the prediction.")] = None,
) -> None:
    """Predict from a run of costs what a mix costs and where the rungs meet, or check that against a mixed run."""
    from crossover.costs import predict as show

    show(folder, workload, read_shares, rate, against or [])


@app.command(rich_help_panel=COMPARE)
def map(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="Runs of costs, one a size.")] = None,
    sizes: Annotated[str, typer.Option(help="Comma-separated sizes to measure first, for instance s,m.")] = "",
    rungs: given.Rungs = "crud,cqrs",
    workload: given.MixName = None,
    rate: given.Rate = None,
    profile: given.ProfileName = "quick",
    clients: given.Clients = "idiomatic",
    out: Annotated[Path, typer.Option(help="Output directory of the map and its runs.")] = Path("results/map"),
    against: Annotated[list[Path] | None, typer.Option(help="A run of compare to show beside the map.")] = None,
) -> None:
    """Draw the map of read share by data size: who uses the least CPU where, and where that is inconclusive."""
    from analysis.runs import read_manifest
    from crossover.costs import draw_map, measured

    for known in (*(folders or ()), *(against or ())):
        read_manifest(known)
    runs = measured(sizes, Options(workload=workload or "shop", rate=rate, clients=clients), rungs, profile, out)
    draw_map(runs + (folders or []), workload, rate, out, against or [])


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
    from crossover.kinds import capacity_of

    finish(capacity_of(options, rung, target, p95_ms, freshness_ms, read_share))


@app.command(rich_help_panel=COMPARE)
def plan(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run of compare or of capacity.")],
    read_share: Annotated[float, typer.Option(min=0, max=100, help="Reads, in percent of the operations.")],
    app: Annotated[int, typer.Option(min=1, help="Processes of the application.")] = 1,
    replicas: Annotated[int, typer.Option(min=0, help="Replicas of the store that answers the reads.")] = 0,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the projector.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of each machine.")] = 2,
    against: Annotated[list[Path] | None, typer.Option(help="A run of capacity to show beside the plan.")] = None,
) -> None:
    """Compute from measured costs how far each rung can go with more servers, and what limits it first."""
    from analysis.bounds import Servers, render
    from crossover.costs import capacities_beside
    from crossover.urls import servers_of
    from ladder.rung import rungs

    one_core = frozenset(name for name, server in servers_of(rungs()).items() if server.one_core)
    servers = Servers(app, replicas, partitions, cores, one_core=one_core)
    shown.wide_console().print(render(folder, read_share, servers, against or capacities_beside(folder)))


@app.command(rich_help_panel=TRUST)
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


@app.command(rich_help_panel=KEEP)
def show(folder: given.Folder) -> None:
    """Show a run's table and where its files are; of a run that was stopped, how far it came."""
    shown.show(folder)


@app.command(rich_help_panel=KEEP)
def report(folder: given.Folder) -> None:
    """Write a run's report and plots again, and show it."""
    shown.write(folder)
    shown.show(folder)


@app.command(rich_help_panel=KEEP)
def publish(
    folder: given.Folder,
    beside: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The same run with other --clients, kept and quoted with it.")
    ] = None,
) -> None:
    """Keep a run in results/published, compacted, and write the README's answer from it."""
    from crossover.publish import publish as keep

    keep(folder, beside=beside)


@app.command(rich_help_panel=TRUST)
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


@app.command(rich_help_panel=KEEP)
def delta(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Directory of the run to compare with.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Directory of the run that is compared.")],
) -> None:
    """Compare two runs of the same thing: the CPU per operation of B over that of A."""
    from analysis.delta import compare, render

    shown.wide_console().print(render(compare(run_a, run_b)))


@app.command(rich_help_panel=KEEP)
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


@app.command(rich_help_panel=KEEP)
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


@app.command(rich_help_panel=TRUST)
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


class Stopped(BaseException):
    """A signal asked for the end; everything is stopped in order on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def main() -> None:
    start.enter()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    sys.exit(outcome())


def options_of(words: list[str]) -> set[str]:
    """Those of the command that a command line names."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    named = [commands[word] for word in words[:1] if word in commands]
    return {option for command in named for parameter in command.params for option in parameter.opts}


def outcome(words: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 something failed, 2 bad input, 128 + n stopped by a signal."""
    try:
        words = sys.argv[1:] if words is None else words
        if any(word.startswith("--") for word in words):
            from crossover.variants import in_variants

            words = in_variants(words, options_of)
        return int(app(words, prog_name="crossover", standalone_mode=False) or 0)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "crossover"
        return say(f"{error.format_message().rstrip('.')}: see `{command} --help`.", 2)
    except Failed as error:
        return say(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except Stopped as stopped:
        return 128 + stopped.number
    except BrokenPipeError:  # the reader of our output has left: `crossover rungs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return say(refused_by_system(error), 2)
    except refusals() as error:
        return say(str(error), 2)
    except drivers_errors() as error:
        from ladder.run import reason_of

        return say(f"A server refused what was asked of it ({reason_of(error)}): correct what it names.", 2)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return say(bug(error), 1)


def say(sentence: str, code: int) -> int:
    """What failed may be told with the end of a log, bad input by one line."""
    lines = sentence.splitlines() if code == 1 else [sentence]
    sentence = without_passwords("\n".join(legible(line) for line in lines))
    Console(stderr=True, soft_wrap=True).print(f"[red]{escape(sentence)}[/red]", highlight=False)
    return code


if __name__ == "__main__":
    main()
