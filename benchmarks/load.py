"""A steady load over kept connections, bare sockets so that it leaves the cores to what is measured."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 4
TOKEN = "consistency-token"
Wires = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


class Answer(NamedTuple):
    status: int
    token: str
    body: bytes


def get(path: str, token: str = "") -> bytes:
    carried = f"{TOKEN}: {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{carried}\r\n".encode()


def put(path: str, body: bytes, method: str = "PUT") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> Answer:
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(fields["content-length"]))
    return Answer(int(status.split()[1]), fields.get(TOKEN, ""), body)


@asynccontextmanager
async def connected(url: str, connections: int = CONNECTIONS) -> AsyncIterator[Wires]:
    address = urlsplit(url)
    wires = [await asyncio.open_connection(address.hostname, address.port) for _ in range(connections)]
    yield wires
    for _, writer in wires:
        writer.close()


async def steady(wires: Wires, requests: Sequence[bytes], rate_per_s: float) -> list[float]:
    """Send each request at its due time, or as soon as its connection is free; an answer but 200 or 201 is an error.
    Returns how many ms after that time they were answered."""
    loop = asyncio.get_running_loop()
    start, took_ms = loop.time(), list[float]()

    async def one_wire(first: int) -> None:
        reader, writer = wires[first]
        for number in range(first, len(requests), len(wires)):
            due = start + number / rate_per_s
            await asyncio.sleep(due - loop.time())
            writer.write(requests[number])
            status, _, body = await answer(reader)
            took_ms.append((loop.time() - due) * 1000)
            assert status in (200, 201), body

    await asyncio.gather(*map(one_wire, range(len(wires))))
    return took_ms
