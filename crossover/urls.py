"""The URLs of the user's own servers, from `--url NAME=URL` or the environment. No kind of server is named here."""

import os
from collections.abc import Iterable, Mapping, Sequence

from contract.stores import HIDDEN
from crossover.errors import UserError
from ladder.rung import forms, rung, rungs
from servers.server import Server, secrets_of


def servers_of(rung_names: Iterable[str]) -> dict[str, Server]:
    """Every server that some of the rungs need, by name."""
    return {server.name: server for name in rung_names for server in rung(name).servers}


def every_server() -> dict[str, Server]:
    """What any rung needs, in any variant."""
    return servers_of(form for one in rungs().values() for form in forms(one))


def given_urls(words: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Server name → URL, from `NAME=URL` words and, where none is given, from the variables."""
    servers = every_server()
    urls = {name: environ[server.variable] for name, server in servers.items() if environ.get(server.variable)}
    for word in words:
        name, _, url = word.partition("=")
        if name not in servers or not url:
            raise UserError(f"--url is NAME=URL, where NAME is one of {', '.join(servers)}.")
        urls[name] = url
    HIDDEN.update(secret for url in urls.values() for secret in secrets_of(url))
    return urls
