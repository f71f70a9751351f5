"""An address of a broker that cannot be used, whatever answers there, is told in one sentence."""

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from servers.kafka import KAFKA
from servers.rabbitmq import RABBITMQ
from servers.server import Server, Unusable
from tests.threads import listening


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


def test_a_server_that_hangs_up_is_told() -> None:
    with listening(lambda client: None) as port, pytest.raises(Unusable) as refusal:
        RABBITMQ.check(f"amqp://127.0.0.1:{port}/")
    assert re.fullmatch(r"RABBITMQ_URL cannot be reached \(.+\): start the server, or .+ cafile\.", str(refusal.value))


def test_too_old_a_kafka_is_told() -> None:
    """One as of version 0.10, which cannot describe its settings."""
    api_versions, metadata = 18, 3

    def text(word: str) -> bytes:
        return struct.pack(">h", len(word)) + word.encode()

    def serve(client: socket.socket) -> None:
        while head := client.recv(4, socket.MSG_WAITALL):
            (size,) = struct.unpack(">i", head)
            key, version, number = struct.unpack(">hhi", client.recv(size, socket.MSG_WAITALL)[:8])
            if key == api_versions:
                known = [(api_versions, 0, 0), (metadata, 0, 2)] if version == 0 else []
                answer = struct.pack(">hi", 0 if known else 35, len(known))
                answer += b"".join(struct.pack(">hhh", *one) for one in known)
            else:
                broker = struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">ih", port, -1)
                answer = struct.pack(">i", 1) + broker + text("cluster") + struct.pack(">ii", 1, 0)  # its controller: 1
            client.sendall(struct.pack(">ii", len(answer) + 4, number) + answer)

    with listening(serve) as port, pytest.raises(Unusable) as refusal:
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
                if not (more := client.recv(4096)):
                    return
                said += more
            client.sendall(frame.marshal(answer, 0))

    with listening(serve) as port:
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
