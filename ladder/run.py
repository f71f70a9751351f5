"""A rung as processes: prepare its servers, load them, run its app, run a worker, rebuild its views, drop it all.

`python -m ladder.run prepare|load|app|worker|rebuild|drop RUNG …`, configured by environment variables. An error that
the user can fix prints one sentence to stderr and exits with code 2. Progress is one JSON object per line.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import signal
import socket
import sys
from datetime import datetime

import uvicorn
import uvloop

from contract.errors import WorkerError
from contract.http.app import make_app
from ladder.arrival import Arrival
from ladder.environment import NAMESPACE, TOKEN, Environment
from ladder.rung import Rung, has_views, names, rung
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


async def run_worker(one: Rung, name: str, *, env: Environment) -> None:
    workers = one.workers(env)
    if name not in workers:
        raise Unusable(f"The rung {one.name} has no worker '{name}'.")
    running = asyncio.ensure_future(workers[name].run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


def prepare(one: Rung, env: Environment) -> None:
    for server in one.servers:
        server.check(env.url(server))
    one.prepare(env)


def rebuild(one: Rung, env: Environment) -> None:
    if not has_views(one):
        raise Unusable(f"{one.name} derives no views from its write model, so there is nothing to rebuild.")
    done = one.rebuild(env, show)
    show("rebuilt", done, done)


def load(one: Rung, env: Environment, words: list[str]) -> None:
    """`MODULE:CALLABLE UNTIL [WORD]…`: the data set is what the callable returns, given the words that follow."""
    module, _, name = words[0].partition(":")
    data = getattr(importlib.import_module(module), name)(*words[2:])
    one.load(env, data, datetime.fromisoformat(words[1]), show)


def drop(one: Rung, env: Environment) -> None:
    for server in one.servers:
        server.drop(env.url(server), env.variables[NAMESPACE])


def show(phase: str, done: int, total: int) -> None:
    print(json.dumps({"phase": phase, "done": done, "total": total}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ladder.run", description=__doc__)
    parser.add_argument("what", choices=("prepare", "load", "app", "worker", "rebuild", "drop"))
    parser.add_argument("rung", choices=sorted(names()))
    parser.add_argument("words", nargs="*", help="of worker: its name; of load: MODULE:CALLABLE UNTIL [WORD]...")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int)
    options = parser.parse_args()
    one, env = rung(options.rung), Environment()
    try:
        match options.what:
            case "prepare":
                prepare(one, env)
            case "app":
                uvloop.run(serve_app(one, env, options.host, options.port, options.fd))
            case "worker":
                uvloop.run(run_worker(one, *options.words, env=env))
            case "load":
                load(one, env, options.words)
            case "rebuild":
                rebuild(one, env)
            case "drop":
                drop(one, env)
    except (Unusable, WorkerError) as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
