"""Systems to compare with, on the server of every rung: `bare` is an ASGI function that answers one order at once;
behind the HTTP layer, `constant` does so and `raw` asks the queries of crud by psycopg alone.
`python benchmarks/systems.py bare|constant|raw FD`, the stores told by the environment as to a rung.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.http.app import make_app
from contract.messages import CustomerRef, Line, OrderView, Query, QueryResult
from crud_impl.system import answer
from ladder.arrival import Arrival
from ladder.connections import POOL_CONNECTIONS
from ladder.environment import Environment
from ladder.noop.system import MemoryOrders
from servers.postgres import POSTGRES

LINES = tuple(Line("00000000-0000-7000-8000-000000000000", "Small Green Kettle", 2, 1999, 3998) for _ in range(3))
ORDER = OrderView(
    LINES[0].product_id, 3, "shipped", "2026-11-23T09:30:00.000000Z", CustomerRef("", "Ada"), LINES, 11994
)


ANSWER = msgspec.json.encode(ORDER)


class Constant(MemoryOrders):
    _answer = QueryResult(ANSWER)

    async def answer(self, query: Query) -> QueryResult:
        return self._answer


class Raw(MemoryOrders):
    """The queries of crud, on as many connections as a rung has."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env.clock)
        self._env, self._idle = env, asyncio.LifoQueue[psycopg.AsyncConnection | None]()
        for _ in range(POOL_CONNECTIONS):
            self._idle.put_nowait(None)

    async def answer(self, query: Query) -> QueryResult:
        return await answer(self._rows, query)

    async def _rows(self, sql: str, params: dict[str, Any]) -> list[Any]:
        options = f"-c search_path={self._env.namespace}"
        connection = await self._idle.get() or await psycopg.AsyncConnection.connect(
            self._env.url(POSTGRES), autocommit=True, prepare_threshold=1, options=options
        )
        rows: list[Any] = await (await connection.execute(sql, params)).fetchall()
        self._idle.put_nowait(connection)
        return rows


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The very bytes of `constant`."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"consistency-token", b"0-0")]
        headers.append((b"content-length", str(len(ANSWER)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})


SYSTEMS: dict[str, Callable[[Environment], ASGIApp]] = {
    "bare": lambda _: bare,
    "constant": lambda env: make_app(Constant(env.clock)),
    "raw": lambda env: make_app(Raw(env)),
}


async def serve(name: str, fd: int) -> None:
    config = uvicorn.Config(
        SYSTEMS[name](Environment()),
        loop="uvloop",
        http=Arrival,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
    )
    await uvicorn.Server(config).serve(sockets=[socket.socket(fileno=fd)])


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
