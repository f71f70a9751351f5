"""Shows which servers are there, and fetches those that do not come with our own packages."""

import os
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crossover.errors import UserError
from crossover.progress import Steps
from crossover.urls import every_server
from servers.artifacts import fetch, missing
from servers.server import Installable, Origin, Server, Unusable
from servers.supervisor import Processes


def server_table(environ: Mapping[str, str] = os.environ) -> Table:
    """What each would be: your own where its variable is set, or else a private one."""
    table = Table(title="Servers")
    for name in ("server", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("where from, or what brings it")
    for server in every_server().values():
        url = environ.get(server.variable)
        try:
            version, source = found(server, url)
        except Unusable as reason:
            version, source = f"[red]{'unusable' if url else 'missing'}[/red]", str(reason)
        table.add_row(server.name, version, escape(source))
    return table


def found(server: Server, url: str | None) -> Origin:
    return Origin(server.check(url).version, f"your own, at {server.variable}") if url else server.private()


def install(names: Sequence[str], console: Console) -> None:
    """Fetch what these servers need, and is not there; then say where it is."""
    known = every_server()
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"There is no server '{unknown[0]}': choose one of {', '.join(known)}.")
    for name in names:
        server = known[name]
        if isinstance(server, Installable):
            with Steps("install") as progress:
                for part in missing(server.parts):
                    fetch(part, progress)
                progress(f"preparing {server.title}", 0, 0)
                with Processes() as run:
                    server.prepare(run)
        # One that cannot be fetched by us says what brings it.
        console.print(f"{server.title}: {' '.join(server.private())}", highlight=False, soft_wrap=True, markup=False)
