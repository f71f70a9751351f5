"""OpenSearch: a private node from pinned jars on a pinned Java, and any OpenSearch or Elasticsearch by its URL.

A private one listens on two ports of loopback. Its core asks for no password: whoever can log in to this machine can
read and write what it holds.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from servers.account import not_root
from servers.artifacts import Part, missing
from servers.java import JAVA, java
from servers.ports import accepts, free_ports
from servers.server import OURS, SERVER_ENV, Facts, Origin, Unusable, without_secrets
from servers.supervisor import START_S_MAX, Processes

JARS = Part("opensearch", "OpenSearch", "3.9.0")
MODULE = "transport-netty4"  # its jars are loaded apart from all others, in a folder of their own
MODULE_JARS = ("netty-", f"{MODULE}-client-", "opensearch-netty4-")
DESCRIPTOR = {
    "name": MODULE,
    "description": "HTTP",
    "version": JARS.version,
    "opensearch.version": JARS.version,
    "java.version": "21",
    "classname": "org.opensearch.transport.Netty4ModulePlugin",
}
SETTINGS: dict[str, str] = {
    "cluster.name": "crossover",
    "discovery.type": "single-node",
    "network.host": "127.0.0.1",
    "node.processors": "2",
    "cluster.routing.allocation.disk.threshold_enabled": "false",  # a share of a disk that others fill too
    "indices.breaker.total.use_real_memory": "false",  # else garbage counts, and requests are refused because of it
    "action.auto_create_index": "false",  # an index that is gone stays gone until somebody makes it as it must be
}
LOGGING = """
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
HEAP = "512m"
# Serial, as it has two cores at most: its garbage stays until the heap is full. No file in the temporary folder.
JAVA_OPTIONS = ("-Xms128m", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:-UsePerfData")
NATIVE = "--enable-native-access=ALL-UNNAMED"
FOLDERS = ("bin", "config", "data", "logs", "plugins", "tmp", f"modules/{MODULE}")
AT_ONCE = (signal.SIGKILL, 5.0)  # what it holds is thrown away, so that it need not be put in order first
ASK_S_MAX = 15.0
VERSIONS_MIN = {"OpenSearch": 2, "Elasticsearch": 8}
ADDRESS = "give http://host:9200, or https://user:password@host:9200?cafile=/path/to/ca.pem"
READ_ONLY = "cluster.blocks.read_only_allow_delete"  # what it also sets by itself, for an index, on a full disk


class Address(NamedTuple):
    """What a client needs of a URL."""

    url: str  # without what follows
    login: tuple[str, str] | None
    cafile: str | None

    def settings(self) -> dict[str, Any]:
        """Of an `aiohttp.ClientSession`, but where it leads."""
        import aiohttp

        auth = aiohttp.BasicAuth(*self.login) if self.login else None
        trusted = ssl.create_default_context(cafile=self.cafile) if self.url.startswith("https:") else False
        return {"auth": auth, "connector": aiohttp.TCPConnector(ssl=trusted, limit=0)}


class OpenSearch:
    name, title, variable, one_core = "opensearch", "OpenSearch", "OPENSEARCH_URL", False
    parts = (JAVA, JARS)
    refusals = ("read-only",)
    durabilities: Mapping[str, Mapping[str, str]] = {"full": {}}  # what a crash costs is set by each index

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import aiohttp

        return (aiohttp.ClientError,)

    # A private one

    def private(self) -> Origin:
        if missing(self.parts):
            raise Unusable(
                f"OpenSearch is not installed: run `crossover servers install {self.name}`, or set {self.variable} to"
                " your own."
            )
        account = " as user nobody" if not_root(self.title, self.variable) else ""
        source = f"from Maven Central, on Java {JAVA.version}, in {JARS.folder.parent}; private to each target{account}"
        return Origin(JARS.version, source)

    def prepare(self, run: Processes) -> None:
        """Nothing: it starts from its jars."""

    def start(self, run: Processes, *, durability: str = "full") -> str:
        """Takes three to seven seconds."""
        self.private()
        home, (http, transport) = self.data_folder(run), free_ports(2)
        for name in FOLDERS:
            (home / name).mkdir(parents=True, exist_ok=True)  # a disk of its own may be mounted there
        module = home / "modules" / MODULE
        for jar in _module_jars():
            shutil.copy(jar, module)
        (module / "plugin-descriptor.properties").write_text(_lines(DESCRIPTOR, "="))
        settings = SETTINGS | {"http.port": str(http), "transport.port": str(transport)}
        (home / "config" / "opensearch.yml").write_text(_lines(settings, ": "))
        (home / "config" / "log4j2.properties").write_text(LOGGING)
        (home / "url").write_text(f"http://127.0.0.1:{http}")
        if account := not_root(self.title, self.variable):
            for path in (home, *home.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid)
        return self.restart(run, durability=durability)

    def restart(self, run: Processes, *, durability: str = "full") -> str:
        """Start it where it was over the data that is there, after a crash too."""
        home = self.data_folder(run)
        url = (home / "url").read_text()
        own = {"path.home": home, "path.conf": home / "config", "distribution.type": "tar"}
        words = [*JAVA_OPTIONS, NATIVE, f"-Djava.io.tmpdir={home / 'tmp'}"]
        words += [f"-Dopensearch.{name}={value}" for name, value in own.items()]
        command = java(JARS, *words, "org.opensearch.bootstrap.OpenSearch", without=_module_jars())
        account = not_root(self.title, self.variable)
        run.start(self.name, command, env=SERVER_ENV, account=account, stop=AT_ONCE, cwd=home)
        port = urlsplit(url).port
        assert port is not None, "written so"
        run.wait_for(self.name, self.title, lambda: accepts(port))
        self._ask(url, "GET", "/_cluster/health?wait_for_status=yellow&timeout=60s", within_s=START_S_MAX)
        return url

    def data_folder(self, run: Processes) -> Path:
        return run.folder / self.name

    def process_ids(self, run: Processes) -> list[int]:
        return [run.pids[self.name]]

    # Any one

    def address(self, url: str) -> Address:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        cafile = options.pop("cafile", None)
        if parts.scheme not in ("http", "https") or not parts.hostname or options:
            raise Unusable(f"{self.variable} is no address: {ADDRESS}.")
        login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        return Address(where, login, cafile)

    def check(self, url: str, connections: int = 0) -> Facts:
        told = self._ask(url, "GET", "/")
        version = told.get("version") if isinstance(told, dict) else None
        version = version if isinstance(version, dict) else {}
        number, product = str(version.get("number", "unknown")), "OpenSearch"
        if version.get("distribution") != "opensearch":
            product = "Elasticsearch" if "lucene_version" in version else "something else"
        if product not in VERSIONS_MIN:
            raise self._another(product)
        if int(number.split(".")[0]) < (needed := VERSIONS_MIN[product]):
            raise Unusable(f"The {product} at {self.variable} is {number}: {needed} or newer is needed.")
        health = self._ask(url, "GET", "/_cluster/health")
        return Facts(f"{product} {number}", {"data_nodes": str(health["number_of_data_nodes"])})

    def drop(self, url: str, namespace: str) -> None:
        assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"
        for index in self._indexes(url, f"{namespace}.*"):
            self._ask(url, "DELETE", f"/{index}?ignore_unavailable=true")

    def namespaces(self, url: str, beginning: str) -> set[str]:
        return {index.split(".")[0] for index in self._indexes(url, f"{beginning}*")}

    def _indexes(self, url: str, pattern: str) -> list[str]:
        """They are named NAMESPACE.NUMBER; no namespace has a dot."""
        return [one["index"] for one in self._ask(url, "GET", f"/_cat/indices/{pattern}?h=index&format=json")]

    # Faults

    def flush(self, run: Processes) -> None:
        url = (self.data_folder(run) / "url").read_text()
        for index in self._indexes(url, f"{OURS}*"):
            self._ask(url, "DELETE", f"/{index}?ignore_unavailable=true")

    @contextlib.contextmanager
    def refusing_writes(self, run: Processes, how: str) -> Iterator[None]:
        url = (self.data_folder(run) / "url").read_text()
        self._ask(url, "PUT", "/_cluster/settings", {"persistent": {READ_ONLY: True}})
        yield
        self._ask(url, "PUT", "/_cluster/settings", {"persistent": {READ_ONLY: None}})

    def _ask(self, url: str, method: str, path: str, body: object | None = None, *, within_s: float = ASK_S_MAX) -> Any:
        """The JSON of an answer; `Unusable` for any that is not of success."""
        import aiohttp

        address = self.address(url)

        async def asked() -> tuple[int, bytes]:
            async with (
                aiohttp.ClientSession(**address.settings(), timeout=aiohttp.ClientTimeout(within_s)) as session,
                session.request(method, address.url + path, json=body) as answer,
            ):
                return answer.status, await answer.read()

        try:
            status, content = asyncio.run(asked())
        except TimeoutError:
            raise Unusable(f"{self.variable} cannot be reached (no answer within {within_s:g} s): start it.") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = without_secrets(str(error), url)[:200] or type(error).__name__
            raise Unusable(
                f"{self.variable} cannot be reached ({reason}): start the server, or correct the address or its cafile."
            ) from None
        if status in (401, 403):
            raise Unusable(f"{self.variable} refuses its user (status {status}): correct the user or the password.")
        try:
            told = json.loads(content)
        except ValueError:
            raise self._another("something else") from None
        if status >= 400:
            reason = without_secrets(reason_in(told) or f"status {status}", url)[:200]
            raise Unusable(f"{self.variable} refuses ({reason}): correct what it names.")
        return told

    def _another(self, product: str) -> Unusable:
        return Unusable(f"{self.variable} leads to {product}: give the address of an OpenSearch or Elasticsearch.")


def reason_in(told: object) -> str:
    """Of a refusal, in its own words."""
    error = told.get("error") if isinstance(told, dict) else None
    return str(error.get("reason", "")) if isinstance(error, dict) else str(error or "")


def _module_jars() -> list[Path]:
    return [jar for jar in sorted(JARS.folder.glob("*.jar")) if jar.name.startswith(MODULE_JARS)]


def _lines(settings: Mapping[str, str], between: str) -> str:
    return "".join(f"{name}{between}{value}\n" for name, value in settings.items())


OPENSEARCH = OpenSearch()
