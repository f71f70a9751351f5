"""Commands that measure rungs and services, and compute from what was measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossover import options as given
from crossover import show as shown
from crossover.errors import UserError
from crossover.options import Options, flatten

if TYPE_CHECKING:
    from crossover.planning import Session


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
