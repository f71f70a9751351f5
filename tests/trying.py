"""The step that tries a rung on servers, in this process."""

import contextlib
import io
import os
from unittest import mock

from psycopg.conninfo import conninfo_to_dict

from crossover.targets import target_env
from ladder.run import main
from servers.server import fresh_namespace


def env_of(rung: str, urls: dict[str, str], level: str = "idiomatic") -> dict[str, str]:
    return target_env(rung, urls, namespace=fresh_namespace("test_bad"), clients=level)


def tried(rung: str, urls: dict[str, str], level: str = "idiomatic", beside: tuple[str, ...] = ()) -> str:
    """The one sentence of the step that tries a rung; empty if it can work."""
    said = io.StringIO()
    with mock.patch.dict(os.environ, env_of(rung, urls, level)), contextlib.redirect_stderr(said):
        with contextlib.suppress(SystemExit):
            main(["try", rung, *beside])
            return ""
    return said.getvalue().splitlines()[-1]


def socket_and_port(url: str) -> tuple[str, str]:
    parts = conninfo_to_dict(url)
    return str(parts["host"]), str(parts.get("port", "5432"))
