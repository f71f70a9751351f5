"""An emptied read store replays itself, because its checkpoint went with it."""

import time
import uuid
from collections.abc import Callable

import httpx
import redis


def test_a_read_store_that_lost_everything_comes_back_by_itself(fresh_target: Callable[..., object]) -> None:
    target = fresh_target("cqrs")
    customer, product, order = (str(uuid.uuid4()) for _ in range(3))
    with httpx.Client(base_url=target.url) as client:  # type: ignore[attr-defined]
        client.put(f"/customers/{customer}", json={"name": "Ann"}).raise_for_status()
        body = {"name": "Tea", "price_cents": 100, "stock": 9}
        client.put(f"/products/{product}", json=body).raise_for_status()
        lines = [{"product_id": product, "quantity": 2}]
        placed = client.put(f"/orders/{order}", json={"customer_id": customer, "lines": lines})
        seen = {"Consistency-Token": placed.headers["Consistency-Token"], "Prefer": "wait=5"}
        paths = (f"/orders/{order}", f"/customers/{customer}/orders", "/reports/top-products", "/search/orders?q=tea")
        before = [client.get(path, headers=seen).raise_for_status().content for path in paths]

        with redis.Redis.from_url(target.env["REDIS_URL"]) as store:  # type: ignore[attr-defined]
            keys = store.keys(f"{target.env['CROSSOVER_NAMESPACE']}:*")  # type: ignore[attr-defined]
            assert len(keys) > 5
            store.delete(*keys)

        deadline = time.monotonic() + 20
        while client.get(f"/orders/{order}", headers=seen).status_code == 503:
            assert time.monotonic() < deadline, "the projector did not notice"
        assert [client.get(path, headers=seen).raise_for_status().content for path in paths] == before
