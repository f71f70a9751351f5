"""A Redis on which a rung cannot work is refused in one sentence; TLS is spoken as its address says."""

import asyncio
import contextlib
import random
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from crossover.targets import LOOPBACK
from ladder.environment import LEVELS
from servers.redis import REDIS
from servers.supervisor import Processes
from tests.conftest import LONG_LEVELS
from tests.service import PATIENCE_S
from tests.test_cli import outcome_of
from tests.threads import meanwhile
from tests.trying import tried


@pytest.fixture
def own_redis() -> Iterator[Callable[..., tuple[str, Any]]]:
    with Processes() as processes, contextlib.ExitStack() as stack:

        def start(**settings: str) -> tuple[str, Any]:
            url = REDIS.start(processes, **settings)
            return url, stack.enter_context(redis.Redis.from_url(url))

        yield start


def free_port() -> str:
    """Below the ports that the kernel gives to clients, one of which could take it before the server does."""
    for port in random.sample(range(11_000, 20_000), 50):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)
    raise AssertionError("a port is free")


LIMITED = ("limited", "canary-acl")
BAD_REDIS: dict[str, tuple[dict[str, str], Callable[[Any], Any], str, str]] = {
    "cluster": ({"cluster_enabled": "yes", "port": "FREE"}, lambda r: None, "", "is in cluster mode"),
    "replica": ({}, lambda r: r.replicaof("127.0.0.1", 1), "", "is a replica, which takes no writes"),
    "evicts": ({"maxmemory_policy": "allkeys-lru"}, lambda r: None, "", "evicts (allkeys-lru)"),
    "few clients": ({"maxclients": "40"}, lambda r: None, "", "connections left (maxclients), and up to"),
    "full": ({}, lambda r: r.config_set("maxmemory", 1), "", "does not let cqrs work (command not allowed"),
    "no INFO or CONFIG": ({}, lambda r: acl(r, "+@all", "-info", "-config"), "limited", "allow it INFO (ACL SETUSER"),
    "no scripts": ({}, lambda r: acl(r, "+@all", "-eval"), "limited", "'eval' command"),
    "no transactions": ({}, lambda r: acl(r, "+@all", "-@transaction"), "limited", "watch' command"),
    "no writes": ({}, lambda r: acl(r, "+@all", "-@write"), "limited", "has no permissions to run the"),
    "no reads": ({}, lambda r: acl(r, "+@all", "-mget"), "limited", "'mget' command"),
    "other keys": ({}, lambda r: acl(r, "+@all", "resetkeys", "~other:*"), "limited", "does not let cqrs work"),
    "wrong password": ({}, lambda r: None, "limited", "REDIS_URL cannot be reached"),
    "no password": ({"requirepass": "canary-acl"}, lambda r: None, "nobody", "REDIS_URL cannot be reached"),
    "no such database": ({}, lambda r: None, "?db=7", "REDIS_URL cannot be reached"),
}


def acl(client: Any, *rules: str) -> None:
    client.execute_command("ACL", "SETUSER", LIMITED[0], "on", f">{LIMITED[1]}", "~*", "&*", *rules)


@pytest.mark.parametrize("kind", BAD_REDIS)
def test_a_redis_that_cannot_do_the_work_is_refused(
    kind: str, postgres_url: str, own_redis: Callable[..., tuple[str, Any]]
) -> None:
    settings, change, user, says = BAD_REDIS[kind]
    url, client = own_redis(**{key: free_port() if value == "FREE" else value for key, value in settings.items()})
    change(client)
    if user == "limited":
        url = url.replace("unix://", f"unix://{LIMITED[0]}:{LIMITED[1]}@")
    elif user == "nobody":
        url = "unix://" + url.partition("@")[2]
    else:
        url += user
    urls = {"postgres": postgres_url, "redis": url}
    for level in LEVELS:
        sentence = tried("cqrs", urls, level)
        assert (says in sentence) or (kind == "few clients" and level == "lean" and not sentence), sentence
        assert "canary" not in sentence
    if kind in ("cluster", "no scripts", "full"):
        assert sentence_of_doctor(urls) == tried("event_sourced", urls), "the richest rung that needs no more"
    with contextlib.suppress(redis.RedisError):
        client.config_set("maxmemory", 0)
        assert not client.keys("*trial*")


def sentence_of_doctor(urls: dict[str, str]) -> str:
    code, said = outcome_of("doctor", DATABASE_URL=urls["postgres"], REDIS_URL=urls["redis"])
    lines = [
        line.removeprefix("missing ").split(maxsplit=1) for line in said.splitlines() if line.startswith("missing")
    ]
    assert code == 1 and [line[0] for line in lines] == ["Redis"], said
    return lines[0][1]


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_tls_is_spoken_as_the_address_says(
    level: str, postgres_url: str, own_redis: Callable[..., tuple[str, Any]], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(
        [*made, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True
    )
    url, _ = own_redis(requirepass="p@ss/word")
    with tls_before(url.partition("@")[2], key, cert) as port:
        host = f"rediss://:{quote('p@ss/word', safe='')}@localhost:{port}/0"
        for address, works in {
            f"{host}?ssl_ca_certs={cert}": True,
            f"{host}?ssl_cert_reqs=none": True,
            f"{host.replace('localhost', LOOPBACK)}?ssl_ca_certs={cert}&ssl_check_hostname=no": True,
            f"{host.replace('localhost', LOOPBACK)}?ssl_ca_certs={cert}": False,
            host: False,
            host.replace("rediss", "redis"): False,
        }.items():
            sentence = tried("cqrs", {"postgres": postgres_url, "redis": address}, level)
            assert (sentence == "") == works, (address, sentence)
            assert works or ("REDIS_URL cannot be reached" in sentence and "p@ss" not in sentence)


@contextlib.contextmanager
def tls_before(path: str, key: Path, cert: Path) -> Iterator[int]:
    """The port at which a server on a Unix socket is reached through TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    ready, over, port = threading.Event(), threading.Event(), list[int]()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(path)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    async def serve() -> None:
        server = await asyncio.start_server(relay, LOOPBACK, 0, ssl=context)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.to_thread(over.wait)
        server.close()

    with meanwhile(lambda: asyncio.run(serve()), end=over.set):
        assert ready.wait(PATIENCE_S)
        yield port[0]
