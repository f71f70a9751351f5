"""Private brokers are real: they keep what they acknowledged, let nobody else in, and leave nothing behind."""

import asyncio
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from crossover.torture.deployment import Deployment
from crossover.torture.links import Links, link_name
from ladder.rung import Rung
from servers.kafka import KAFKA
from servers.rabbitmq import RABBITMQ
from servers.reaper import alive
from servers.server import Redirecting, Server, Unusable, fresh_namespace
from servers.supervisor import Processes
from tests.conftest import UrlOf, one_short
from tests.family import GONE_S_MAX, descendants, folders_of, gone, reapers_of
from tests.service import wait_until

BROKERS = [KAFKA, RABBITMQ]
MESSAGES = [f"message {number}".encode() for number in range(200)]
by_name = pytest.mark.parametrize("broker", BROKERS, ids=lambda one: one.name)


def startable(broker: Server) -> Server:
    try:
        broker.private()
    except Unusable as reason:
        pytest.skip(f"no {broker.title}: {reason}")
    return broker


class Kafka:
    """Messages in and out by a client of one's own, each acknowledged."""

    def __init__(self, url: str) -> None:
        self.settings = KAFKA.client_settings(url)

    def make(self, namespace: str) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

        admin = AdminClient(self.settings)
        (made,) = admin.create_topics([NewTopic(f"{namespace}.0", 1, 1)]).values()
        made.result()

    def publish(self, namespace: str) -> None:
        from confluent_kafka import Producer

        refused: list[Any] = []
        producer = Producer(self.settings | {"acks": "all", "enable.idempotence": True, "linger.ms": 5})
        for message in MESSAGES:
            producer.produce(f"{namespace}.0", message, on_delivery=lambda error, _: refused.append(error))
        assert producer.flush(60) == 0 and refused == [None] * len(MESSAGES)

    def held(self, namespace: str) -> list[bytes]:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(self.settings | {"group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(f"{namespace}.0", 0, 0)])
        found = consumer.consume(len(MESSAGES), timeout=60)
        consumer.close()
        return [bytes(message.value() or b"") for message in found]

    def leads(self) -> str:
        """The port to which clients are sent on."""
        from confluent_kafka.admin import AdminClient

        (broker,) = AdminClient(self.settings).list_topics(timeout=60).brokers.values()
        return str(broker.port)


class RabbitMQ:
    def __init__(self, url: str) -> None:
        self.url = url

    def leads(self) -> str:
        return str(urlsplit(self.url).port)

    def make(self, namespace: str) -> None:
        asyncio.run(self._queue(namespace, []))

    def publish(self, namespace: str) -> None:
        asyncio.run(self._queue(namespace, MESSAGES))

    def held(self, namespace: str) -> list[bytes]:
        return asyncio.run(self._queue(namespace, []))

    async def _queue(self, namespace: str, messages: list[bytes]) -> list[bytes]:
        import aio_pika

        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel(publisher_confirms=True)
            queue = await channel.declare_queue(
                f"{namespace}.0", durable=True, arguments={"x-queue-type": "quorum"}, timeout=60
            )
            for body in messages:
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await channel.default_exchange.publish(message, f"{namespace}.0", timeout=60)
            found = []
            while not messages and (answer := await queue.get(fail=False, timeout=60)):
                found.append(answer.body)
            return found


CLIENTS: dict[str, Any] = {"kafka": Kafka, "rabbitmq": RabbitMQ}


def another_of_kafka(home: Path, url: str) -> tuple[str, str]:
    """From its next start on it knows another user, who may do nothing; their address, and what is said of it."""
    settings = (home / "settings").read_text().replace(";\n", ' user_other="geheim";\n')
    settings += "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
    (home / "settings").write_text(settings + "super.users=User:crossover\n")
    return re.sub("//.*@", "//other:geheim@", url), (
        "The user at KAFKA_URL may not do what is needed (Cluster authorization failed.): let it describe the cluster,"
        " and create, describe and delete topics whose names begin with crossover_."
    )


def another_of_rabbitmq(home: Path, url: str) -> tuple[str, str]:
    password = urlsplit(url).password  # of its own user, whom it would not make beside these if it were empty
    users = [("crossover", password, "administrator"), ("other", "geheim", "")]
    definitions = {
        "users": [dict(zip(("name", "password", "tags"), one, strict=True)) for one in users],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": "crossover", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    }
    (home / "others.json").write_text(json.dumps(definitions))
    with (home / "rabbitmq.conf").open("a") as conf:
        conf.write(f"load_definitions = {home / 'others.json'}\n")
    return re.sub("//.*@", "//other:geheim@", url), (
        "RABBITMQ_URL cannot be reached (its virtual host is not there, or not for this user): correct the user, the"
        " password, the virtual host or what it names."
    )


OTHERS = {"kafka": another_of_kafka, "rabbitmq": another_of_rabbitmq}


@by_name
def test_a_broker_tells_of_itself_lets_nobody_else_in_and_drops_one_namespace(
    broker: Any, url_of: UrlOf, processes: Processes
) -> None:
    url = url_of(broker)
    facts = broker.check(url)
    assert re.fullmatch(r"Kafka 4 or newer|RabbitMQ [34]\.\d+\.\d+", facts.version)
    if broker is KAFKA:
        assert facts.durability["log.flush.interval.messages"] == "1", "each message is on the disk"
    for other in (url.replace(":" + url.split(":")[2].split("@")[0], ":geheim"), re.sub(r"//.*@", "//", url)):
        with pytest.raises(Unusable, match=f"{broker.variable} (cannot be reached|cannot be used)") as refusal:
            broker.check(other)
        assert "geheim" not in str(refusal.value)
    family = [pid for name, pid in processes.pids.items() if name.startswith(broker.name) and psutil.pid_exists(pid)]
    listening = [
        one.laddr.ip for pid in family for one in psutil.Process(pid).net_connections() if one.status == "LISTEN"
    ]
    assert len(listening) >= 2 and {*listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    data = broker.data_folder(processes)
    assert data.stat().st_mode & 0o077 == 0, "its password is in there"

    client, ours, theirs = CLIENTS[broker.name](url), fresh_namespace("test"), fresh_namespace("test")
    client.make(ours)
    client.make(theirs)
    wait_until(lambda: broker.holds(url, ours) and broker.holds(url, theirs))  # Kafka tells its clients a little later
    broker.drop(url, ours)
    broker.drop(url, ours)
    wait_until(lambda: not broker.holds(url, ours))
    assert broker.holds(url, theirs)
    broker.drop(url, theirs)


class Carried(Rung):
    name, idea, worker_names = "carried", "", ("relay",)


@pytest.mark.parametrize("broker", one_short(BROKERS), ids=lambda one: one.name)
def test_what_a_broker_acknowledged_is_there_after_what_it_suffers_and_a_link_leads_to_it(broker: Any) -> None:
    carried = Carried()
    carried.servers = (startable(broker),)
    with Processes() as processes, Links() as links:
        deployment = Deployment(processes, links, carried)
        url = broker.start(processes)
        deployment.urls = {broker.name: url}
        client, namespace = CLIENTS[broker.name](url), fresh_namespace("test")
        client.make(namespace)
        client.publish(namespace)
        if broker is RABBITMQ:  # which writes down at its leisure where the log of a new queue lies, and needs to know
            (names,) = RABBITMQ.data_folder(processes).glob("data/*/quorum/*/names.dets")
            wait_until(lambda: namespace.encode() in names.read_bytes(), GONE_S_MAX)
        deployment.kill(broker.name)
        with pytest.raises(Unusable, match=f"{broker.variable} cannot be reached"):
            broker.check(url)
        other, sentence = OTHERS[broker.name](broker.data_folder(processes), url)
        urls = deployment.linked(broker)
        if not isinstance(broker, Redirecting):  # which are started again with their links
            deployment.start(broker.name)
        assert client.held(namespace) == MESSAGES
        with pytest.raises(Unusable) as refusal:
            broker.check(other)
        assert str(refusal.value) == sentence

        client, link = CLIENTS[broker.name](urls["app"]), link_name("app", broker.name)
        assert client.leads() == str(urlsplit(urls["app"]).port), "its clients are sent nowhere but to their link"
        links.disturb(link, "cut")
        with pytest.raises(Unusable, match=f"{broker.variable} cannot be reached"):
            broker.check(urls["app"])
        broker.check(urls["relay"])
        links.restore(link)
        if broker.name in deployment.disks:
            deployment.fill_disk(broker.name)
            deployment.free_disk(broker.name)
        assert sorted(client.held(namespace)) == sorted(MESSAGES), "delivered again, in whatever order"
        broker.flush(processes)
        assert not broker.holds(url, namespace)


START = """
import sys, time
from servers.{name} import {value}
from servers.supervisor import Processes
with Processes() as processes:
    {value}.start(processes)
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def command(broker: Server) -> Iterator[subprocess.Popen[str]]:
    """A command that holds a private broker."""
    code = START.format(name=startable(broker).name, value=broker.name.upper())
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def said_of(pid: int) -> tuple[bytes, bytes]:
    """Environment and command line; nothing of one that has ended."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        return (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
    return b"", b""


def that_mention(words: set[str]) -> set[int]:
    """Processes whose environment or command line says one of these."""
    pids = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return {pid for pid in pids if any(word.encode() in said for said in said_of(pid) for word in words)}


@pytest.mark.parametrize(
    ("broker", "sent"),
    [
        (KAFKA, "SIGKILL"),
        (RABBITMQ, "SIGKILL"),
        pytest.param(KAFKA, "SIGTERM", marks=pytest.mark.long),
        pytest.param(RABBITMQ, "SIGINT", marks=pytest.mark.long),
    ],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_however_a_command_ends_nothing_of_its_broker_is_left(
    broker: Server, sent: str, command: subprocess.Popen[str]
) -> None:
    assert command.stdout is not None and command.stdout.readline() == "started\n"
    folders, family = folders_of(reapers_of(command.pid)[0]), descendants(command.pid)
    marks = {folders[0].name} | {
        # Erlang's port mapper, whoever has started it, is told its port alone.
        word
        for pid in family
        for word in said_of(pid)[0].decode().split("\0")
        if word.startswith("ERL_EPMD_PORT=")
    }
    found = that_mention(marks)
    assert len(marks) == (2 if broker is RABBITMQ else 1) and all(pid in found or not alive(pid) for pid in family)
    os.killpg(command.pid, signal.Signals[sent])
    command.wait(GONE_S_MAX)
    gone(family, list(folders))
    wait_until(lambda: not that_mention(marks), GONE_S_MAX)
    assert not {int(file.name) for file in Path("/tmp").glob("hsperfdata_*/*")} & {*family}


@pytest.mark.parametrize(
    ("broker", "url", "sentence"),
    [
        (KAFKA, "http://127.0.0.1:9", "KAFKA_URL is no address: give kafka://host:9092, or kafka://user:password@"),
        (
            KAFKA,
            "kafka://127.0.0.1:9",
            "KAFKA_URL cannot be reached (127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9",
        ),
        (KAFKA, "127.0.0.1:9?acks.of=2", 'KAFKA_URL cannot be used (No such configuration property: "acks.of"): give'),
        (KAFKA, "a:geheim@127.0.0.1:9?security.protocol=SASL_SSL&ssl.ca.location=/none", "KAFKA_URL cannot be used ("),
        (
            RABBITMQ,
            "http://127.0.0.1:9",
            "RABBITMQ_URL is no address: give amqp://user:password@host:5672/vhost, or amqps",
        ),
        (
            RABBITMQ,
            "amqp://a:geheim@127.0.0.1:9",
            "RABBITMQ_URL cannot be reached (Connection refused): start the server, or correct the",
        ),
        (RABBITMQ, "amqps://a:geheim@127.0.0.1:nine/", "RABBITMQ_URL cannot be reached (Invalid URL: port can't be"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_in_one_sentence(broker: Server, url: str, sentence: str) -> None:
    with pytest.raises(Unusable) as refusal:
        broker.check(url)
    said = str(refusal.value)
    assert said.startswith(sentence) and said.endswith(".") and "\n" not in said and "geheim" not in said


def test_an_address_of_kafka_carries_any_setting_of_its_client() -> None:
    url = "kafka://me:a%40b@one:9092,two:9093?sasl.mechanism=SCRAM-SHA-512&ssl.ca.location=/etc/ca%20of%20ours.pem"
    assert KAFKA.client_settings(url) == {
        "bootstrap.servers": "one:9092,two:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me",
        "sasl.password": "a@b",
        "ssl.ca.location": "/etc/ca of ours.pem",
    }
    assert KAFKA.client_settings("one:9092") == {"bootstrap.servers": "one:9092"}


@contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port on which each connection is served by this function."""

    def accept() -> None:
        with suppress(OSError):  # closed, by us or by the client
            while True:
                threading.Thread(target=quietly, args=[listening.accept()[0]], daemon=True).start()

    def quietly(client: socket.socket) -> None:
        with client, suppress(OSError, struct.error):
            serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield int(listening.getsockname()[1])


def test_a_server_that_hangs_up_is_told() -> None:
    with served(lambda client: None) as port, pytest.raises(Unusable) as refusal:
        RABBITMQ.check(f"amqp://127.0.0.1:{port}/")
    assert re.fullmatch(r"RABBITMQ_URL cannot be reached \(.+\): start the server, or .+ cafile\.", str(refusal.value))


def test_too_old_a_kafka_is_told() -> None:
    """One as of version 0.10, which cannot describe its settings."""
    api_versions, metadata = 18, 3

    def text(word: str) -> bytes:
        return struct.pack(">h", len(word)) + word.encode()

    def serve(client: socket.socket) -> None:
        while True:
            (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
            key, version, number = struct.unpack(">hhi", client.recv(size, socket.MSG_WAITALL)[:8])
            if key == api_versions:
                known = [(api_versions, 0, 0), (metadata, 0, 2)] if version == 0 else []
                answer = struct.pack(">hi", 0 if known else 35, len(known))
                answer += b"".join(struct.pack(">hhh", *one) for one in known)
            else:
                broker = struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">ih", port, -1)
                answer = struct.pack(">i", 1) + broker + text("cluster") + struct.pack(">ii", 1, 0)  # its controller: 1
            client.sendall(struct.pack(">ii", len(answer) + 4, number) + answer)

    with served(serve) as port, pytest.raises(Unusable) as refusal:
        KAFKA.check(f"kafka://127.0.0.1:{port}")
    assert str(refusal.value) == "KAFKA_URL is too old a Kafka: 0.11 or newer is needed."


@contextmanager
def pretended(product: str, version: str) -> Iterator[str]:
    """A server that opens connections, and says that it is this one."""
    from pamqp import commands, frame

    told = {"product": product, "version": version}
    steps = [
        (b"AMQP", commands.Connection.Start(server_properties=told, mechanisms="PLAIN", locales="en_US")),
        (b"\0\x0a\0\x0b", commands.Connection.Tune(0, 131072, 0)),  # StartOk
        (b"\0\x0a\0\x28", commands.Connection.OpenOk()),  # Open
        (b"\0\x0a\0\x32", commands.Connection.CloseOk()),  # Close
    ]

    def serve(client: socket.socket) -> None:
        for heard, answer in steps:
            said = b""
            while heard not in said:
                said += client.recv(4096)
            client.sendall(frame.marshal(answer, 0))

    with served(serve) as port:
        yield f"amqp://127.0.0.1:{port}/"


@pytest.mark.parametrize(
    ("product", "version", "sentence"),
    [
        ("RabbitMQ", "3.7.28", "The RabbitMQ at RABBITMQ_URL is 3.7.28: 3.8 or newer is needed."),
        ("LavinMQ", "2.1.0", "RABBITMQ_URL leads to LavinMQ 2.1.0: give the address of a RabbitMQ."),
    ],
)
def test_too_old_a_rabbitmq_and_another_product_are_told(product: str, version: str, sentence: str) -> None:
    with pretended(product, version) as url, pytest.raises(Unusable) as refusal:
        RABBITMQ.check(url)
    assert str(refusal.value) == sentence
