"""Fills a target's stores before it runs: the data set into the write model and the outbox, then the views of it."""

from collections.abc import Callable
from datetime import UTC, datetime

import psycopg

from cqrs_impl.write.outbox import copy_events
from crossover.errors import Fallen, UserError
from crossover.processes import household
from crossover.rebuild import build_views
from crud_impl.load import OtherData, load
from loadtests.dataset import SIZES, Dataset

Progress = Callable[[str, int, int], None]


def seed(target_env: dict[str, str], rung: str, size: str, seed: int, until: datetime, progress: Progress) -> None:
    """Fill the prepared stores of a rung; a namespace that holds this very data set keeps it."""
    if "DATABASE_URL" not in target_env:
        raise UserError(
            f"{rung} keeps nothing in a store, so there is nothing to fill before it runs: serve it with --size empty."
        )
    dataset = Dataset(seed, *SIZES[size])
    if not any(dataset.size):
        return
    from ladder import serving

    try:
        url, schema = target_env["DATABASE_URL"], target_env["CROSSOVER_NAMESPACE"]
        events = copy_events if serving.workers_of(rung) else None
        load(url, schema, dataset, until.astimezone(UTC), progress, events)
    except OtherData:
        raise UserError(
            f"This target holds data of another size of seed {dataset.seed}: give --size empty to keep it, "
            "another --seed to add to it, or another database."
        ) from None
    except psycopg.Error as error:
        raise Fallen(f"Filling the stores of {rung} failed ({str(error).strip().splitlines()[0]}).") from error
    # Also when the data was there: what ended an earlier fill between the write model and its views left them empty.
    if serving.needs_rebuild(rung):
        with household() as house:
            build_views(house, rung, target_env, progress)
