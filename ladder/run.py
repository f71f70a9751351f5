"""A rung as processes: try its servers, prepare them, load them, run its app, run a worker, rebuild its views, drop it.

`python -m ladder.run try|prepare|load|app|worker|rebuild|drop RUNG …`, configured by environment variables. An error
that the user can fix, and any that a server makes, prints one sentence to stderr and exits with code 2. Progress is one
JSON object per line. Each loads only what it needs: a step is a short process, and most of it would be imports.
"""

import argparse
import asyncio
import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import uvloop

from contract.errors import StoreGone, WorkerError
from contract.stores import one_line
from crud_impl.session import message_of
from ladder.connections import connections_of
from ladder.environment import NAMESPACE, PRIVATE, Environment
from ladder.rung import LiveRebuild, Rung, errors_of, has_views, names, rung
from ladder.workers import one_by_one, run
from servers.server import Unusable

NICE = 5  # a third of the share of others: with less, the switch would not keep up with commands on a busy machine
SHARED_BY_SESSION = Path("/proc/sys/kernel/sched_autogroup_enabled")


async def run_worker(one: Rung, name: str, *, env: Environment) -> None:
    workers = one.workers(env)
    if name not in workers:
        raise Unusable(f"The rung {one.name} has no worker '{name}'.")
    await run(workers[name])


def prepare(one: Rung, env: Environment, beside: list[str]) -> None:
    """Servers that were started for this rung alone need no trial."""
    if beside != [PRIVATE]:
        try_out(one, env, beside)
    one.prepare(env)


def try_out(one: Rung, env: Environment, beside: list[str]) -> None:
    """`beside`: the rungs that will be served on the same servers too."""
    opened = [connections_of(sharing, env) for sharing in (one, *map(rung, beside))]
    for server in one.servers:
        needed = sum(most.get(server.name, 0) for most in opened)
        server.check(env.url(server), needed + 1)  # one for questions like this one
    if one.servers:
        from ladder.trial import trial

        trial(one, env)


def rebuild(one: Rung, env: Environment, live: bool) -> None:
    if not has_views(one):
        raise Unusable(f"{one.name} derives no views from its write model, so there is nothing to rebuild.")
    done = uvloop.run(rebuild_live(one, env)) if live else one.rebuild(env, show)
    show("rebuilt", done, done)


class RebuildStopped(WorkerError):
    def __init__(self) -> None:
        super().__init__("Stopped: the next live rebuild goes on from here.")


async def rebuild_live(one: Rung, env: Environment) -> int:
    """After SIGTERM it ends between two batches. It leaves the processors to those who serve."""
    stopping = asyncio.Event()

    def report(done: int, total: int) -> None:
        if stopping.is_set():
            raise RebuildStopped
        show(f"building new views of {one.name} beside its present ones", done, total)

    builders = [worker for worker in one.workers(env).values() if isinstance(worker, LiveRebuild)]
    if not builders and one.worker_names:
        raise Unusable(f"The views of {one.name} are built in parts, which no one step replaces: leave out --live.")
    if not builders:
        raise Unusable(f"The commands of {one.name} write its views themselves: leave out --live.")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    give_way()
    return await one_by_one(builders, lambda builder: builder.rebuild_live(report))


def give_way() -> None:
    """Linux shares processors among sessions first, where that is on, and then looks at who is nice in each. There an
    idle process keeps the share of its session, and whoever else wakes up takes its place at once."""
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICE))
        if SHARED_BY_SESSION.read_text().strip() == "1":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ladder.run", description=__doc__)
    parser.add_argument("what", choices=("try", "prepare", "load", "app", "worker", "rebuild", "drop"))
    parser.add_argument("rung", type=rung, help=f"one of {', '.join(sorted(names()))}")
    of = (
        "of worker: its name; of load: MODULE:CALLABLE UNTIL [WORD]...; of rebuild: live;"
        " of try and prepare: rungs on the same servers"
    )
    parser.add_argument("words", nargs="*", help=of)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int)
    options = parser.parse_args(argv)
    one, env = options.rung, Environment(in_bulk=options.what in ("load", "rebuild"))
    store_errors: tuple[type[Exception], ...] = (StoreGone, *errors_of(one))
    try:
        match options.what:
            case "try":
                try_out(one, env, options.words)
            case "prepare":
                prepare(one, env, options.words)
            case "app":
                from ladder.app import serve_app

                uvloop.run(serve_app(one, env, options.host, options.port, options.fd))
            case "worker":
                uvloop.run(run_worker(one, *options.words, env=env))
            case "load":
                load(one, env, options.words)
            case "rebuild":
                rebuild(one, env, options.words == ["live"])
            case "drop":
                drop(one, env)
    except (Unusable, WorkerError) as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)
    except store_errors as error:
        print(sentence(error, one), file=sys.stderr)
        sys.exit(2)


def sentence(error: Exception, one: Rung) -> str:
    """What a server said, whatever it was, and which one it was."""
    cause = error.__cause__ or error
    reason = error.reason or error.detail if isinstance(error, StoreGone) else reason_of(error)
    for server in one.servers:
        if isinstance(cause, server.errors):
            return (
                f"The {server.title} at {server.variable} does not let {one.name} work ({reason}):"
                " correct what it names, or give another."
            )
    return f"A server does not let {one.name} work ({reason}): correct what it names, or give another."


def reason_of(error: Exception) -> str:
    """What a server said, without a password."""
    return one_line(message_of(error))


if __name__ == "__main__":
    main()
