"""Commands that look at the ladder, serve a rung, and care for what its own servers hold."""

import contextlib
import time
from typing import Annotated

import typer
from rich.console import Console

from crossover import options as given
from crossover import show as shown
from crossover.options import HELP
from crossover.progress import Steps

servers_app = typer.Typer(context_settings=HELP)


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


def rungs() -> None:
    """Show the ladder: each rung, its parent and the one idea it adds."""
    from crossover.ladder_view import ladder_table

    console = shown.wide_console()
    console.print(ladder_table(console.width))


def diff(rung: given.RungName) -> None:
    """Show what a rung changes in its parent's composition."""
    from crossover.ladder_view import show_diff

    show_diff(Console(soft_wrap=True), rung)


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


def parked(rung: given.RungName, url: given.Urls = None) -> None:
    """Show the streams that are blocked because an event could not be applied, on your own servers."""
    from crossover.parked import kept_on, show_parked
    from crossover.urls import given_urls

    show_parked(Console(), rung, kept_on(rung, "Looking", given_urls(url or ())))


def replay(rung: given.RungName, url: given.Urls = None) -> None:
    """Retry the parked events after the cause is fixed, on your own servers."""
    from crossover.parked import kept_on, replay_parked
    from crossover.urls import given_urls

    replay_parked(Console(), rung, kept_on(rung, "Replaying", given_urls(url or ())))


def doctor(url: given.Urls = None) -> None:
    """Show which servers and versions would be used, what the machine offers, and what is missing."""
    from crossover.doctor import examine
    from crossover.urls import given_urls

    raise typer.Exit(0 if examine(Console(soft_wrap=True), given_urls(url or ())) else 1)


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
