"""A database and its read store moved apart in every combination: what is answered is never of another history.

The database is restored to earlier, copied, cloned, promoted or crashed; the read store stays, is emptied, goes back,
or gets the contents of another's. Whatever came of it, `/ready` is green over true views only, a token is answered from
what contains its command or refused, and the projector gets the views to what the database holds.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from ladder import event_sourced
from servers.server import fresh_namespace
from tests.apart import Store, World
from tests.moves import AsItIs, Cloned, Copied, Crashed, Dumped, InPlace, Promoted, Restarted, Restored, RowByRow

LONG = pytest.mark.long
CHEAP = [AsItIs, InPlace, RowByRow, Copied]
COSTLY = [Restarted, Restored, Crashed, Cloned, Promoted, Dumped]
STORES = ("as it is", "empty", "earlier", "another's")
BY_DEFAULT = [("cqrs", move, store) for move in (AsItIs, InPlace) for store in STORES]
BY_DEFAULT += [("cqrs", move, "as it is") for move in (Copied, RowByRow, Restored, Crashed)]
BY_DEFAULT += [("event_sourced", InPlace, "as it is")]
CASES = [("cqrs", move, store) for move in CHEAP + COSTLY for store in STORES]
CASES += [("event_sourced", move, "as it is") for move in CHEAP + COSTLY]  # only its write model is another
PARAMS = [
    pytest.param(*case, id=f"{case[0]}, {case[1].__name__}, {case[2]}", marks=[] if case in BY_DEFAULT else LONG)
    for case in CASES
]


@pytest.fixture(scope="module")
def anothers(postgres_url: str, redis_url: str) -> Iterator[dict[bytes, Any]]:
    """The contents of a read store of another database."""
    with ExitStack() as stack, redis.Redis.from_url(redis_url) as client:
        name = fresh_namespace("another")
        world = World("cqrs", AsItIs(stack, postgres_url).url, redis_url, name)
        world.write(3)
        world.project()
        yield Store(client, name).save()
        world.close()
        Store(client, name).put({})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # clients outlive their event loops
@pytest.mark.parametrize(("one", "move", "store"), PARAMS)
def test_views_and_tokens_are_of_the_history_that_the_database_has(
    one: str,
    move: type[AsItIs],
    store: str,
    postgres_url: str,
    redis_url: str,
    anothers: dict[bytes, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_sourced, "SNAPSHOT_EVERY", 2)  # so that there are some of what was lost
    namespace = fresh_namespace("apart")
    with ExitStack() as stack, redis.Redis.from_url(redis_url) as client:
        views, moved = Store(client, namespace), move(stack, postgres_url)
        stack.callback(views.put, {})
        world = World(one, moved.url, redis_url, namespace)
        written = world.write(2)
        world.project()
        moved.save(world)
        earlier = views.save()
        written += world.write(2)
        world.project()
        seen = [promise._replace(token=world.read(promise).headers["consistency-token"]) for promise in written]
        written += world.write(1)
        url = moved.move(world)
        if store != "as it is":
            views.put({"empty": {}, "earlier": earlier, "another's": anothers}[store])
        if url != moved.url:
            world = World(one, url, redis_url, namespace, prepare=store != "another's")
        world.check(written + seen)
        for token in ("0-1", "a.1-1.2-2", "a.1-1", f"a.{'9' * 19}-{'9' * 19}", seen[0].token + "9" * 9):
            assert world.read(seen[0]._replace(token=token)).status_code == 503, "no token of this data"
        later = world.write(1)
        world.check(written + seen + later)
        for _ in world.steps():
            world.check(written + seen + later)
        assert any(world.is_ready() or world.project() for _ in range(20)), "a store may be slow to answer"
        for promise in written + later:
            if not world.holds(promise):
                assert world.read(promise).status_code == 503, f"{promise} was lost"
            elif moved.leads or promise in later:
                assert world.read(promise).status_code == 200, f"{promise} was kept"
        world.close()
