"""One keep-alive HTTP connection that repeats nothing by itself: what was not answered is unknown."""

import asyncio
import json
from typing import Any, NamedTuple

TIMEOUT_S = 2.5


class Reply(NamedTuple):
    """`status` 0 is no answer: refused, broken or too late. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


NO_REPLY = Reply(0, {}, b"")


class Wire:
    def __init__(self, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self._port, self._timeout_s = port, timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Send one request and wait for its answer; a connection that failed is never used again."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = {"Host": "shop", "Content-Length": str(len(content))} | (headers or {})
        if body is not None:
            lines["Content-Type"] = "application/json"
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(head.encode() + b"\r\n" + content)
                status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                found = {k.lower(): v for k, v in (field.split(": ", 1) for field in fields if field)}
                reply = await reader.readexactly(int(found["content-length"]))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            return NO_REPLY
        except asyncio.CancelledError:
            self.close()
            raise
        return Reply(int(status.split()[1]), found, reply)

    def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()
