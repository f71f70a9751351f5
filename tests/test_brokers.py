"""Private brokers are real: they keep what they acknowledged, let nobody else in, and leave nothing behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
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
from servers.server import OURS, Redirecting, Server, Unusable, fresh_namespace
from servers.supervisor import Processes
from tests.conftest import UrlOf
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
    if broker is KAFKA:
        assert not KAFKA.holds(url, f"{OURS}trial"), "its check only tries whether a topic can be made"
    broker.drop(url, ours)
    broker.drop(url, ours)
    wait_until(lambda: not broker.holds(url, ours))
    assert broker.holds(url, theirs)
    broker.drop(url, theirs)


class Carried(Rung):
    name, idea, worker_names = "carried", "", ("relay",)


@pytest.mark.long
@by_name
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
