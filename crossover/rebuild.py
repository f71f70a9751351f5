"""Building a rung's views anew: after its stores were filled, and on the user's own servers when asked for."""

import json

from crossover.errors import UserError
from crossover.namespaces import namespace_of
from crossover.processes import Household, household
from crossover.targets import (
    Progress,
    Stores,
    fallen,
    known_rung,
    ladder_command,
    needs_of,
    prepare,
    process_env,
    target_env,
)

REBUILD_S_MAX = 3600.0


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
        return build_views(house, rung, env, progress)


def build_views(house: Household, rung: str, env: dict[str, str], progress: Progress) -> int:
    """The same on stores that are prepared."""
    house.start("rebuild", ladder_command("rebuild", rung), env=process_env(env))
    done = 0

    def finished() -> bool:
        nonlocal done
        for line in house.place.last_lines("rebuild", lines=1).splitlines():
            if line.startswith("{") and line.endswith("}"):
                said = json.loads(line)
                done = int(said["done"])
                progress(f"building the views of {rung}", done, int(said["total"]))
        return "rebuild" in house.ended

    house.wait(finished, f"the rebuild of {rung}", REBUILD_S_MAX, tick_s=0.2)
    finished()  # what was said between the last look and the end
    if house.ended["rebuild"] == 2:
        raise UserError(house.place.last_lines("rebuild", lines=1))
    if house.ended["rebuild"] != 0:
        raise fallen(house, "rebuild", f"The rebuild of {rung}")
    return done
