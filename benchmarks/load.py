"""A steady load over kept connections, bare sockets so that it leaves the cores to what is measured."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 4


class Answered(NamedTuple):
    status: int
    token: str
    at: float  # the loop's clock


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def put(path: str, body: bytes) -> bytes:
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def steady(url: str, requests: Sequence[bytes], rate_per_s: float) -> list[Answered]:
    """Send each request at its due time, or as soon as a connection is free; any answer but 2xx is an error."""
    loop = asyncio.get_running_loop()
    address, start = urlsplit(url), loop.time() + 0.01

    async def one_connection(first: int) -> list[Answered]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        answers = []
        for number in range(first, len(requests), CONNECTIONS):
            await asyncio.sleep(start + number / rate_per_s - loop.time())
            writer.write(requests[number])
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            answers.append(Answered(int(head[0].split()[1]), headers["consistency-token"], loop.time()))
            assert answers[-1].status in (200, 201), body
        writer.close()
        return answers

    parts = await asyncio.gather(*map(one_connection, range(CONNECTIONS)))
    return [answer for part in parts for answer in part]
