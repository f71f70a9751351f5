"""Kafka: a private broker from pinned jars on a pinned Java, every setting chosen, and any other by its URL.

It cannot listen on a Unix socket: a private one listens on two ports of loopback, where it asks for a password that
nobody else knows. One process is broker and controller, which needs no ZooKeeper and no second server.
"""

import base64
import contextlib
import re
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from servers.artifacts import Part, missing
from servers.java import JAVA, java
from servers.ports import accepts, free_ports
from servers.server import OURS, SERVER_ENV, Facts, Failed, Origin, Unusable, without_secrets
from servers.supervisor import START_S_MAX, Processes

if TYPE_CHECKING:
    from servers.kafka_admin import Admin

JARS = Part("kafka", "Kafka", "4.4.0")
SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.retention.ms": "-1",  # its folder is thrown away as a whole; what nobody has read yet never expires
    "log.cleaner.dedupe.buffer.size": "8388608",
    "group.initial.rebalance.delay.ms": "0",  # the first group would wait three seconds for others
    # After a SIGKILL the session of the broker that was is waited for: nine seconds by default.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
}
FLUSH = "log.flush.interval.messages"
REPORTED = (FLUSH, "min.insync.replicas", "default.replication.factor", "log.retention.ms", "message.max.bytes")
DURABILITY = (FLUSH, "min.insync.replicas", "default.replication.factor")
LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="{0}" password="{1}" user_{0}="{1}";'
LOGIN_OF = "listener.name.{}.plain.sasl.jaas.config"
USER = "crossover"
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
# Serial and C1: it starts in half the time, and two cores have more to do. No file in the temporary folder, and no
# words about classes that are not mapped.
JAVA_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xlog:disable", QUIET)
CHECKPOINT = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"  # all that formatting writes
AOT = "classes.aot"
AT_ONCE = (signal.SIGKILL, 5.0)  # what it holds is thrown away, so that it need not be put in order first
VERSION_MIN = "0.11"  # tells its settings, and drops what a producer repeats
ADDRESS = (
    "give kafka://host:9092, or kafka://user:password@host:9092?security.protocol=SASL_SSL, where any setting of"
    " librdkafka can follow."
)


class Kafka:
    name, title, variable, one_core = "kafka", "Kafka", "KAFKA_URL", False
    parts = (JAVA, JARS)
    disk_check_s = 0.0  # it writes at once, and ends if it cannot
    # An acknowledged message is in the broker's hands: whether it is on the disk too is a setting.
    durabilities: Mapping[str, Mapping[str, str]] = {"full": {FLUSH: "1"}, "relaxed": {}}

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        from confluent_kafka import KafkaException

        return (KafkaException,)

    # A private one

    def private(self) -> Origin:
        if missing(self.parts) or not self._prepared.is_dir():
            raise Unusable(
                f"Kafka is not installed: run `crossover servers install kafka`, or set {self.variable} to your own."
            )
        source = f"from Maven Central, on Java {JAVA.version}, in {JARS.folder.parent}; private to each target"
        return Origin(JARS.version, source)

    @property
    def _prepared(self) -> Path:
        return JARS.folder / f"prepared-{JAVA.version}"

    def prepare(self, run: Processes) -> None:
        """A formatted folder, which is copied instead of made by a Java of its own, and the classes as they are after
        a start, which the next one maps: a second of CPU instead of four."""
        if self._prepared.is_dir():
            return
        fresh, home = self._prepared.with_suffix(".new"), self.data_folder(run)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        self._write_settings(home)
        made = self._java(home, "kafka.tools.StorageTool", "format", "-t", _fresh_id(), "-c", home / "settings")
        if run.run("kafka-format", made, env=SERVER_ENV) != 0:
            raise Failed(f"Kafka could not be set up:\n{run.last_lines('kafka-format')}")
        shutil.copy(home / "data" / CHECKPOINT, fresh / "checkpoint")
        self._run_java(run, home, f"-XX:AOTCacheOutput={fresh / AOT}", stop=(signal.SIGTERM, START_S_MAX))
        run.stop(self.name)  # politely, which has it write the classes down; without them it starts all the same
        fresh.rename(self._prepared)

    def start(self, run: Processes, *, durability: str = "full") -> str:
        """Takes one to three seconds."""
        self.private()
        self._write_settings(self.data_folder(run))
        self._format(self.data_folder(run))
        return self.restart(run, durability=durability)

    def _format(self, home: Path) -> None:
        checkpoint = home / "data" / CHECKPOINT
        checkpoint.parent.mkdir(parents=True)
        shutil.copy(self._prepared / "checkpoint", checkpoint)
        ids = {"version": "1", "node.id": SETTINGS["node.id"], "cluster.id": _fresh_id(), "directory.id": _fresh_id()}
        (home / "data" / "meta.properties").write_text(_properties(ids))

    def _write_settings(self, home: Path) -> None:
        home.mkdir(mode=0o700, exist_ok=True)  # a disk of its own may be mounted there
        (client, controller), password = (f"127.0.0.1:{port}" for port in free_ports(2)), secrets.token_urlsafe(16)
        settings = SETTINGS | {
            "controller.quorum.voters": f"{SETTINGS['node.id']}@{controller}",
            "listeners": f"CLIENT://{client},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{client}",
            LOGIN_OF.format("client"): LOGIN.format(USER, password),
            LOGIN_OF.format("controller"): LOGIN.format(USER, password),
            "log.dirs": str(home / "data"),
        }
        (home / "url").write_text(f"kafka://{USER}:{password}@{client}?security.protocol=SASL_PLAINTEXT")
        (home / "settings").write_text(_properties(settings))

    def restart(self, run: Processes, *, durability: str = "full") -> str:
        """Start it where it was over the data that is there, after a crash too."""
        return self._run_java(run, self.data_folder(run), f"-XX:AOTCache={self._prepared / AOT}", durability)

    def _run_java(
        self, run: Processes, home: Path, aot: str, durability: str = "full", stop: tuple[int, float] = AT_ONCE
    ) -> str:
        chosen, url = home / f"settings-{durability}", (home / "url").read_text()
        chosen.write_text((home / "settings").read_text() + _properties(self.durabilities[durability]))
        run.start(self.name, self._java(home, aot, "kafka.Kafka", chosen), env=SERVER_ENV, stop=stop)
        port = urlsplit(url).port
        assert port is not None, "written so"
        run.wait_for(self.name, "Kafka", lambda: accepts(port))
        self._admin(url).topics(START_S_MAX)
        return url

    @staticmethod
    def _java(home: Path, *words: str | Path) -> list[str | Path]:
        return java(JARS, *JAVA_OPTIONS, f"-Djava.io.tmpdir={home}", *words)

    def data_folder(self, run: Processes) -> Path:
        return run.folder / self.name

    # Faults

    def process_ids(self, run: Processes) -> list[int]:
        return [run.pids[self.name]]

    def redirect(self, run: Processes, links: Mapping[str, int]) -> Mapping[str, int]:
        """By one more listener for each, as it tells who comes by one the address that this one advertises."""
        file = self.data_folder(run) / "settings"
        settings = dict(line.split("=", 1) for line in file.read_text().splitlines())
        leads = dict(zip(links, free_ports(len(links)), strict=True))
        for number, link in enumerate(links):
            name = f"LINK{number}"
            settings["listeners"] += f",{name}://127.0.0.1:{leads[link]}"
            settings["advertised.listeners"] += f",{name}://127.0.0.1:{links[link]}"
            settings["listener.security.protocol.map"] += f",{name}:SASL_PLAINTEXT"
            settings[LOGIN_OF.format(name.lower())] = settings[LOGIN_OF.format("client")]
        run.stop(self.name)
        file.write_text(_properties(settings))
        self.restart(run)
        return leads

    def flush(self, run: Processes) -> None:
        """It comes back empty, as one whose disk was replaced."""
        run.stop(self.name)
        shutil.rmtree(self.data_folder(run) / "data")
        self._format(self.data_folder(run))
        self.restart(run)

    def need_space(self, url: str) -> None:
        """A topic is written down before it is there; a broker that cannot write ends."""
        with contextlib.suppress(Unusable, *self.errors):
            self._admin(url).create(f"{OURS}needs_space")

    # Any one

    def client_settings(self, url: str) -> dict[str, Any]:
        """What librdkafka is told for an address; its own settings, TLS among them, follow the question mark."""
        scheme, _, rest = url.rpartition("://")
        where, _, query = rest.partition("?")
        login, _, hosts = where.rstrip("/").rpartition("@")
        if scheme not in ("", "kafka") or not hosts or "/" in hosts:
            raise Unusable(f"{self.variable} is no address: {ADDRESS}")
        user, _, password = login.partition(":")
        sasl = {"sasl.username": unquote(user), "sasl.password": unquote(password)} if login else {}
        defaults = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"} if login else {}
        return defaults | sasl | dict(parse_qsl(query)) | {"bootstrap.servers": hosts}

    def _admin(self, url: str) -> "Admin":
        from servers.kafka_admin import Admin

        try:
            return Admin(self.client_settings(url))
        except self.errors as error:
            reason = without_secrets(error.args[0].str(), url)
            raise Unusable(f"{self.variable} cannot be used ({reason}): {ADDRESS}") from None

    def check(self, url: str, connections: int = 0) -> Facts:
        from confluent_kafka import KafkaError, KafkaException

        try:
            settings = self._admin(url).settings_after_a_trial()
        except KafkaException as error:
            code, reason = error.args[0].code(), without_secrets(error.args[0].str(), url)
            if code == KafkaError._UNSUPPORTED_FEATURE:
                raise Unusable(f"{self.variable} is too old a Kafka: {VERSION_MIN} or newer is needed.") from None
            if code in (KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED):
                raise Unusable(
                    f"The user at {self.variable} may not do what is needed ({reason}): let it describe the cluster,"
                    f" and create, describe and delete topics whose names begin with {OURS}."
                ) from None
            advice = "start the server, or correct the address or its security.protocol"
            if code == KafkaError._AUTHENTICATION:
                advice = "correct the user and the password"
            reason = re.sub(r" \(after \d+ms in state \w+\)", "", reason)[:200]
            raise Unusable(f"{self.variable} cannot be reached ({reason}): {advice}.") from None
        kept = {name: value for name in REPORTED if (value := settings.get(name)) is not None}
        return Facts(_version(settings), kept, {name: kept[name] for name in DURABILITY if name in kept})

    def drop(self, url: str, namespace: str) -> None:
        assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"
        admin = self._admin(url)
        admin.delete([topic for topic in admin.topics() if _namespace_of(topic) == namespace])

    def holds(self, url: str, namespace: str) -> bool:
        return namespace in self.namespaces(url, namespace)

    def namespaces(self, url: str, beginning: str) -> set[str]:
        return {_namespace_of(topic) for topic in self._admin(url).topics() if topic.startswith(beginning)}


def _namespace_of(topic: str) -> str:
    """Topics of ours are named NAMESPACE.WHAT; no namespace has a dot."""
    return topic.split(".")[0]


def _version(settings: Mapping[str, object]) -> str:
    """Brokers do not tell their version: the settings that they know do, roughly."""
    return "Kafka 3 or older" if "zookeeper.connect" in settings else "Kafka 4 or newer"


def _properties(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _fresh_id() -> str:
    """16 bytes, the first of which is zero: an id that begins with a hyphen would be read as an option."""
    return base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")


KAFKA = Kafka()
