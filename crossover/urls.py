"""The user's own servers: `--url NAME=URL`, or each server's variable; nothing above names one of them."""

import os
from collections.abc import Iterable, Mapping, Sequence

from crossover.errors import UserError
from ladder.rung import rung, rungs
from servers.server import Server


def all_servers() -> dict[str, Server]:
    """Every server that some rung of the ladder needs, by name."""
    return {server.name: server for one in rungs().values() for server in one.servers}


def given_urls(words: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Server name → URL, from `NAME=URL` words and, where none is given, from the variables."""
    servers = all_servers()
    urls = {name: environ[server.variable] for name, server in servers.items() if environ.get(server.variable)}
    for word in words:
        name, _, url = word.partition("=")
        if name not in servers or not url:
            raise UserError(f"--url is NAME=URL, where NAME is one of {', '.join(servers)}.")
        urls[name] = url
    return urls


def variables_of(urls: Mapping[str, str], rung_names: Iterable[str]) -> dict[str, str]:
    """The variables that lead these rungs to their servers; of servers that are not given, none."""
    servers = {server.name: server for name in rung_names for server in rung(name).servers}
    return {server.variable: urls[name] for name, server in servers.items() if name in urls}
