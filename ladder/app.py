"""A rung's app as a process: the HTTP layer over its system, served by uvicorn."""

import socket

import uvicorn

from contract.http.app import make_app
from ladder.arrival import Arrival
from ladder.environment import TOKEN, Environment
from ladder.rung import Rung
from servers.server import Unusable

LOOPBACK = ("127.0.0.1", "localhost", "::1")


async def serve_app(one: Rung, env: Environment, host: str, port: int, fd: int | None) -> None:
    if host not in LOOPBACK and not env.token:
        raise Unusable(f"Binding {host} needs a token: set {TOKEN}, or bind 127.0.0.1.")
    app = make_app(one.system(env), token=env.token, rung=one.name)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Arrival,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    await uvicorn.Server(config).serve(sockets=None if fd is None else [socket.socket(fileno=fd)])
