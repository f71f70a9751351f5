"""Checks what a run would use on this machine and what is missing: one line per finding, a fix for each problem."""

import contextlib
import importlib.metadata
import importlib.util
import platform
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from crossover.errors import UserError
from crossover.machine import cores, cpu_model, limits, memory_gib
from crossover.revisions import commit_of
from crossover.targets import Target, start_servers, target_env
from crossover.urls import every_server, servers_of
from ladder.rung import forms, rung, rungs
from servers.folders import require_room, sockets_parent, state_dir
from servers.server import Installable, Linkable, Server, Unusable
from servers.supervisor import Processes

PACKAGES = ("sqlalchemy", "starlette", "msgspec", "uvicorn", "uvloop", "httptools", "locust", "polars", "matplotlib")
INDENT = len("missing ") + 11

Finding = Callable[[], str]


def examine(console: Console, urls: Mapping[str, str]) -> bool:
    """Print every finding, also on each server of the ladder. True when nothing is missing, except what only some rungs
    need and can be fetched."""
    examined = {*servers_of(rungs()), *urls}
    servers = [server for name, server in every_server().items() if name in examined]
    findings: dict[str, Finding] = {
        "Python": lambda: f"{platform.python_version()} at {sys.executable}",
        "packages": packages,
        "machine": machine,
        "memory": memory,
        "disk": lambda: f"{require_room(state_dir()) / 2**30:.0f} GiB free for {state_dir()}",
        **{server.title: partial(found, server, urls) for server in servers},
        "sockets": partial(sockets, [one for name, one in every_server().items() if name not in urls]),
        "commit": commit,
    }
    optional = {one.title for one in servers if isinstance(one, Installable) and one.name not in urls}
    well = True
    for title, find in findings.items():
        try:
            mark, text = "[green]ok[/green]     ", find()
        except Unusable as error:
            mark, text = "[red]missing[/red]", str(error)
            if title in optional:
                mark = "[yellow]absent[/yellow] "
            else:
                well = False
        console.print(f"{mark} {title:<10} {escape(hanging(text, console))}", highlight=False)
    return well


def hanging(text: str, console: Console) -> str:
    """Broken between words, below its first one; whole where there is no terminal."""
    width = max(20, console.width - INDENT) if console.is_terminal else 10_000
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * INDENT).join(lines)


def found(server: Server, urls: Mapping[str, str]) -> str:
    if server.name in urls:
        try_out(server, urls)
        return f"{server.check(urls[server.name]).version} at {server.variable}"
    return " ".join(server.private())


def try_out(server: Server, urls: Mapping[str, str]) -> None:
    """As `serve` does, with the richest rung that uses as few other servers as can be: its own sentence is wanted."""
    known = [rung(form) for one in reversed(rungs().values()) for form in forms(one)]
    users = [one for one in known if server in one.servers]
    one = min(users, key=lambda user: len(user.servers))
    given = {server.name: urls[server.name]}
    for other in one.servers:
        if other.name in urls:
            with contextlib.suppress(Unusable):  # then a private one serves here
                other.check(urls[other.name])
                given[other.name] = urls[other.name]
    with Processes() as supervisor:
        started = start_servers(supervisor, [one.name], given)
        Target(one.name, one.name, target_env(one.name, started, namespace=""), supervisor).try_out()


def packages() -> str:
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise Unusable(f"{', '.join(missing)}: run `make setup`.")
    return f"crossover {importlib.metadata.version('crossover')} and what it needs"


def machine() -> str:
    note = "" if cores() >= 2 else "; with one core the load and the systems disturb each other"
    per_thread = Path("/proc/self/schedstat").exists()
    cpu = "" if per_thread else "; no /proc/<pid>/schedstat here: a comparison has no CPU figures"
    quota = limits().get("cpu_quota_cores")
    allowed = f" (a quota allows {quota:g})" if quota else ""
    return f"{cores()} cores{allowed}, {cpu_model()}, {platform.system()} {platform.release()}{note}{cpu}"


def memory() -> str:
    limit = limits().get("memory_limit_gib")
    return f"{memory_gib():.1f} GiB" + (f", of which {limit:g} may be used" if limit else "")


def sockets(private: Sequence[Server]) -> str:
    titles = [server.title for server in private if not isinstance(server, Linkable)]
    *most, last = ["HTTP", *titles]
    listed = f"{', '.join(most)} and {last}" if most else last
    return f"in {sockets_parent(state_dir())}; no TCP port except for {listed}"


def commit() -> str:
    """What runs will record of the code."""
    try:
        return commit_of("HEAD")
    except UserError as reason:
        return f"none is recorded: {reason}"
