"""A pooler before PostgreSQL is used where it keeps sessions, and refused in one sentence where it shares them."""

import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ladder.environment import LEVELS
from servers.server import SERVER_ENV
from servers.supervisor import Processes
from tests.trying import socket_and_port, tried


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[Callable[..., str]]:
    """`pooler(mode, **settings)`: the address of a PgBouncer before the session's PostgreSQL."""
    binary = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("no pgbouncer: apt-get install pgbouncer")
    folder, port = socket_and_port(postgres_url)
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as made, Processes() as processes:
        place = Path(made)

        def start(mode: str, **settings: str) -> str:
            lines = ["[databases]", f"postgres = host={folder} port={port} user=crossover", "[pgbouncer]"]
            chosen = {"pool_mode": mode, "auth_type": "any", "unix_socket_dir": made, "listen_port": "6432"} | settings
            (place / "pgbouncer.ini").write_text("\n".join([*lines, *(f"{k} = {v}" for k, v in chosen.items())]))
            for path in (place, place / "pgbouncer.ini"):
                path.chmod(0o755)
                if account:
                    os.chown(path, account.pw_uid, account.pw_gid)
            processes.start("pgbouncer", [binary, place / "pgbouncer.ini"], env=SERVER_ENV, account=account)
            url = f"postgresql://crossover@/postgres?host={made}&port=6432"

            def answers() -> bool:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(url, connect_timeout=60).close()
                    return True
                return False

            processes.wait_for("pgbouncer", "PgBouncer", answers)
            return url

        yield start


@pytest.mark.parametrize("ignored", ["", "options, extra_float_digits"])
@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
def test_a_pooler_that_shares_sessions_is_refused_and_another_is_used(
    mode: str, ignored: str, pooler: Callable[..., str], redis_url: str
) -> None:
    urls = {"postgres": pooler(mode, **{"ignore_startup_parameters": ignored} if ignored else {}), "redis": redis_url}
    for level in LEVELS:
        sentence = tried("cqrs", urls, level)
        assert (sentence == "") if mode == "session" else ("pooler that shares its sessions" in sentence), sentence


@pytest.mark.parametrize(
    "settings",
    [
        {"default_pool_size": "4"},
        pytest.param({"max_client_conn": "4"}, marks=pytest.mark.long),
        pytest.param({"default_pool_size": "4", "server_round_robin": "1"}, marks=pytest.mark.long),
    ],
)
def test_a_pooler_with_too_few_sessions_is_refused(settings: dict[str, str], pooler: Callable[..., str]) -> None:
    assert "does not give 9 sessions at once" in tried("crud", {"postgres": pooler("session", **settings)})


def test_a_pooler_in_turn_over_many_sessions_is_refused(pooler: Callable[..., str]) -> None:
    url = pooler("transaction", server_round_robin="1", min_pool_size="20")
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(psycopg.connect(url)).execute("SELECT 1")
    assert "pooler that shares its sessions" in tried("crud", {"postgres": url})
