"""A steady load over kept connections, bare sockets so that it leaves the cores to what is measured."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

CONNECTIONS = 4
Wires = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def put(path: str, body: bytes) -> bytes:
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Wires]:
    address = urlsplit(url)
    wires = [await asyncio.open_connection(address.hostname, address.port) for _ in range(CONNECTIONS)]
    yield wires
    for _, writer in wires:
        writer.close()


async def steady(wires: Wires, requests: Sequence[bytes], rate_per_s: float) -> None:
    """Send each request at its due time, or as soon as its connection is free; an answer but 200 or 201 is an error."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def one_wire(first: int) -> None:
        reader, writer = wires[first]
        for number in range(first, len(requests), len(wires)):
            await asyncio.sleep(start + number / rate_per_s - loop.time())
            writer.write(requests[number])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, length = head.partition(b"content-length: ")
            body = await reader.readexactly(int(length.split(b"\r", 1)[0]))
            assert head.split()[1] in (b"200", b"201"), body

    await asyncio.gather(*map(one_wire, range(len(wires))))
