"""Building a rung's views anew: after its stores were filled, and on the user's own servers when asked for."""

import json
import os
import signal
import subprocess
import tempfile

from crossover.errors import Fallen, UserError
from crossover.keeper import dies_with
from crossover.namespaces import namespace_of
from crossover.processes import household
from crossover.targets import (
    Progress,
    Stores,
    known_rung,
    ladder_command,
    needs_of,
    prepare,
    process_env,
    target_env,
)


def given_stores(rung: str, doing: str, database_url: str | None, redis_url: str | None) -> dict[str, str]:
    """The variables of what a rung keeps on servers of the user's."""
    needs = needs_of(known_rung(rung))
    missing = [
        variable
        for need, url, variable in (("postgres", database_url, "DATABASE_URL"), ("redis", redis_url, "REDIS_URL"))
        if need in needs and not url
    ]
    if not needs:
        raise UserError(f"{rung} keeps nothing in a store, so there is nothing to rebuild or replay.")
    if missing:
        raise UserError(
            f"{doing} needs servers of yours, as private ones end with their command: set {' and '.join(missing)}."
        )
    stores = Stores(database_url if "postgres" in needs else None, redis_url if "redis" in needs else None)
    return target_env(stores, namespace=namespace_of(rung), clock=None, token=None)


def rebuild_views(rung: str, database_url: str | None, redis_url: str | None, progress: Progress) -> int:
    """Clear and replay, with progress; returns the number of events replayed."""
    env = given_stores(rung, "Rebuilding", database_url, redis_url)
    with household() as house:
        prepare(house, rung, rung, env)
    return build_views(rung, env, progress)


def build_views(rung: str, env: dict[str, str], progress: Progress) -> int:
    """The same on stores that are prepared."""
    done = 0
    with tempfile.TemporaryFile() as stderr:  # a file: a pipe that nobody reads meanwhile could fill up
        with subprocess.Popen(
            ladder_command("rebuild", rung),
            env=process_env(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            preexec_fn=dies_with(os.getpid(), signal.SIGKILL),
        ) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    said = json.loads(line)
                    done = int(said["done"])
                    progress(f"building the views of {rung}", done, int(said["total"]))
            except BaseException:
                process.kill()
                raise
        stderr.seek(0)
        last = stderr.read().decode(errors="replace").strip().splitlines()[-20:]
    if process.returncode == 2 and last:
        raise UserError(last[-1])
    if process.returncode != 0:
        ended = f"Building the views of {rung} ended with status {process.returncode}."
        raise Fallen("\n".join([ended, *(["Its last lines:"] if last else []), *last]))
    return done
