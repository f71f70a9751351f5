"""A raw HTTP server with known latencies: what a load generator says about it can be checked.

`python -m loadtests.scripted FIXED_US SLOW_US EVERY STALL_AT STALL_S` answers each request after FIXED_US, every
EVERY-th after SLOW_US, and at request number STALL_AT the whole process stands still for STALL_S. Prints its port.
"""

import asyncio
import contextlib
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Script(asyncio.Protocol):
    seen = 0
    fixed_us, slow_us, every, stall_at, stall_s = (float(argument) for argument in sys.argv[1:6])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.text = b""

    def data_received(self, data: bytes) -> None:
        came = time.monotonic()
        self.text += data
        if not self.text.endswith(b"\r\n\r\n"):  # requests here have no body and are never pipelined
            return
        self.text = b""
        Script.seen += 1
        if self.seen == self.stall_at:
            time.sleep(self.stall_s)
        delay_s = (self.slow_us if self.every and self.seen % self.every == 0 else self.fixed_us) / 1e6
        asyncio.get_running_loop().create_task(self.answer_at(came + delay_s))

    async def answer_at(self, due: float) -> None:
        # The last half millisecond is spun: a timer of the loop may be late by as much as is to be measured.
        while (left := due - time.monotonic()) > 0:
            await asyncio.sleep(left - 0.0005 if left > 0.001 else 0)
        self.transport.write(ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Script, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
