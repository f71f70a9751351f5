"""The rung `broker` in one piece: its options, its backlog, what it says of a broker that is away, other partitions."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import aio_pika
import pytest
import redis
from aio_pika.exceptions import ChannelNotFoundEntity

from contract.errors import WorkerError
from contract.tasks import end
from cqrs_impl.feeds.kafka import create, topic_of
from cqrs_impl.feeds.redis_streams import stream_of
from crossover.targets import target_env
from ladder.broker.processes import TRANSPORT
from ladder.broker.transports import TRANSPORTS
from ladder.environment import Environment
from ladder.rung import CONSUMER, rung
from servers.kafka import KAFKA
from tests.service import Shop, client_of, wait_until

NOWHERE = "redis://127.0.0.1:1"
Urls = dict[str, str]


@pytest.fixture
def urls(postgres_url: str, redis_url: str, streams_url: str) -> Urls:
    return {"postgres": postgres_url, "redis": redis_url, "streams": streams_url}


def prepared(urls: Urls, namespace: str, name: str = "broker") -> Environment:
    env = Environment(target_env(name, urls, namespace=namespace))
    rung(name).prepare(env)
    return env


def work(
    env: Environment, until: Callable[[], bool], name: str = "broker", *others: Any, only: Sequence[str] = ()
) -> None:
    """Run the workers of the rung, or only some of them, and others until the condition holds."""

    async def working() -> None:
        built: Mapping[str, Any] = rung(name).workers(env)
        workers = [*(built[worker] for worker in only or built), *others]
        running = [asyncio.ensure_future(worker.run()) for worker in workers]
        try:
            await asyncio.to_thread(wait_until, lambda: until() or any(one.done() for one in running))
        finally:
            await end(running)
            for worker in workers:
                await worker.close()
        assert until()

    asyncio.run(working())


@pytest.mark.long
@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != TRANSPORT])
def test_views_are_built_over_each_transport(
    transport: str, urls: Urls, namespace: Callable[[], str], request: pytest.FixtureRequest
) -> None:
    one, name = rung(f"broker:{transport}-notifications"), namespace()
    assert [server.name for server in one.servers] == ["postgres", "redis", transport]
    urls = urls | {transport: request.getfixturevalue(f"{transport}_url")}
    env, told = prepared(urls, name, one.name), {"OrderPlaced": 3, "OrderPaid": 3}
    with client_of(one.system(env)) as client:
        shop = Shop(client)
        customer = shop.customer("Ada")
        orders = [shop.order(customer, shop.product(), then=("pay",)) for _ in range(3)]
        work(
            env,
            lambda: client.get("/ready").json()["lag_events"] == 0 and counted(urls["redis"], name) == told,
            one.name,
        )
        shown = client.get(f"/customers/{customer}/orders").json()["orders"]
        assert {(order["id"], order["status"]) for order in shown} == {(order, "paid") for order in orders}
    prepared(urls, name, one.name)  # what is there is taken as it is


@pytest.mark.parametrize("name", ["cqrs:notifications", "broker:notifications"])
def test_a_second_consumer_counts_each_event_once(name: str, urls: Urls, namespace: Callable[[], str]) -> None:
    """Two of it at once, then one from its position, and over a broker one that has lost messages."""
    env = prepared(urls, namespace(), name)

    def done(orders: int) -> bool:
        return counted(urls["redis"], env.namespace) == {"OrderPlaced": orders, "OrderCancelled": 1}

    with client_of(rung(name).system(env)) as client:
        shop = Shop(client)
        customer, product = shop.customer("Ada"), shop.product()
        for order in range(3):
            shop.order(customer, product, then=("cancel",) * (order == 0))
        second = rung(name).workers(env)[CONSUMER]
        work(env, lambda: done(3), name, second)
        for _ in range(2):
            shop.order(customer, product)
        if name.startswith("broker"):
            work(env, lambda: client.get("/ready").json()["lag_events"] == 0, name, only=("relay", "projector"))
            with redis.Redis.from_url(urls["streams"]) as streams:
                held = [stream_of(env.namespace, number, 2) for number in range(2)]
                assert all(map(streams.xlen, held)), "what the consumer has not read yet is kept for it"
                streams.delete(*held)
        shop.order(customer, product)
        work(env, lambda: done(6), name)
    assert rung(name).rebuild(env, lambda *_: None) >= 6, "events are read for the views, which it has none of"


def counted(url: str, namespace: str) -> Mapping[str, int]:
    """In all partitions."""
    with redis.Redis.from_url(url) as store:
        found = [store.get(key) or b" {}" for key in store.keys(f"{namespace}:*{CONSUMER}")]
    return sum((Counter(json.loads(one.partition(b" ")[2])) for one in found), Counter[str]())


def test_a_topic_of_fewer_partitions_is_refused(urls: Urls, kafka_url: str, namespace: Callable[[], str]) -> None:
    name = namespace()
    create(KAFKA.client_settings(kafka_url), topic_of(name, 4), 2)
    with pytest.raises(WorkerError, match=r"events-4 has 2 partitions where 4 were made: delete it, and what it held"):
        prepared(urls | {"kafka": kafka_url}, name, "broker:kafka-4-partitions")


def test_a_queue_that_is_none_of_ours_is_refused(urls: Urls, rabbitmq_url: str, namespace: Callable[[], str]) -> None:
    name = namespace()

    async def declared() -> None:
        async with await aio_pika.connect(rabbitmq_url) as connection:
            for number in range(2):
                await (await connection.channel()).declare_queue(f"{name}.{number}", durable=True)

    asyncio.run(declared())
    with pytest.raises(WorkerError, match=r"queue \S+\.0 is not one of ours \(.*\): delete it, or give another server"):
        prepared(urls | {"rabbitmq": rabbitmq_url}, name, "broker:rabbitmq")


def test_queues_of_another_number_of_partitions_are_deleted(
    urls: Urls, rabbitmq_url: str, namespace: Callable[[], str]
) -> None:
    name = namespace()
    for variant in ("broker:rabbitmq-4-partitions", "broker:rabbitmq"):
        prepared(urls | {"rabbitmq": rabbitmq_url}, name, variant)

    async def there(number: int) -> bool:
        async with await aio_pika.connect(rabbitmq_url) as connection:
            with suppress(ChannelNotFoundEntity):
                await (await connection.channel()).declare_queue(f"{name}.{number}", passive=True)
                return True
        return False

    assert [asyncio.run(there(number)) for number in range(4)] == [True, True, False, False]


def test_a_message_of_somebody_else_is_told(urls: Urls, namespace: Callable[[], str]) -> None:
    env = prepared(urls, namespace())
    with redis.Redis.from_url(urls["streams"]) as streams:
        streams.xadd(stream_of(env.namespace, 0, 2), {"m": "hello"})
    with pytest.raises(WorkerError, match=r"Partition 0 of the broker gave a message that is none of ours \("):
        asyncio.run(rung("broker").workers(env)["projector"].run())


def test_commands_are_refused_over_the_backlog_limit_until_the_parts_have_worked_it_off(
    urls: Urls, namespace: Callable[[], str]
) -> None:
    env = prepared(urls, namespace())
    with client_of(rung("broker").system(env), backlog_limit=5) as client:
        shop = Shop(client)
        for _ in range(6):
            shop.product()
        wait_until(lambda: client.get("/ready").status_code == 503)
        refused = client.put(f"/customers/{'0' * 8}-0000-0000-0000-{'0' * 12}", json={"name": "Ada"})
        assert (refused.status_code, refused.json()["detail"]) == (503, "The read side is too far behind.")
        work(env, lambda: client.get("/ready").json().get("lag_events") == 0)
        shop.product()


def test_ready_says_what_keeps_the_relay_from_its_broker_and_commands_go_on(
    urls: Urls, namespace: Callable[[], str]
) -> None:
    env = prepared(urls | {"streams": NOWHERE}, namespace())
    with client_of(rung("broker").system(env)) as client:
        Shop(client).product()

        def reason() -> Any:
            answer = client.get("/ready")
            return answer.status_code == 200 and answer.json().get("reason")

        work(env, lambda: bool(reason()))
        assert "connect" in reason().lower()
        Shop(client).product()
        well = Environment(dict(env.variables) | {"STREAMS_URL": urls["streams"]})
        work(well, lambda: client.get("/ready").json() == {"lag_events": 0, "lag_seconds": 0.0, "parked_events": 0})


def test_views_in_another_number_of_parts_are_built_anew_and_the_old_ones_dropped(
    urls: Urls, namespace: Callable[[], str]
) -> None:
    name, answers, four = namespace(), [], "broker:4-partitions-2-projectors"
    ids: list[str] = []
    for variant, parts, others in (("broker", 2, 4), (four, 4, 2)):
        env = prepared(urls, name, variant)
        with client_of(rung(variant).system(env)) as client:
            if not ids:
                shop = Shop(client)
                customer, products = shop.customer("Ada"), [shop.product(name=f"Pot {n}") for n in range(4)]
                orders = [shop.order(customer, *products, then=("pay", "cancel")[: n % 3]) for n in range(6)]
                ids = [f"/customers/{customer}", f"/customers/{customer}/orders", "/search/orders?q=ada+pot"]
                ids += [f"/products/{id}" for id in products] + [f"/orders/{id}" for id in orders]
                ids += ["/reports/top-products", "/reports/daily-sales"]
            work(env, lambda client=client: client.get("/ready").json()["lag_events"] == 0, variant)  # type: ignore[misc]
            answers.append([client.get(path).content for path in ids])
        with redis.Redis.from_url(urls["redis"]) as store:
            assert store.exists(f"{name}:{parts}:checkpoint") and not store.keys(f"{name}:{others}:*")
    assert answers[0] == answers[1]


def test_each_option_is_a_word_of_a_variants_name() -> None:
    both = rung("broker:4-partitions-2-projectors")
    assert both.chosen == {"partitions": "4", "projectors": "2"}
    assert both.worker_names == ("relay", "projector-1", "projector-2")
    assert rung("broker:redis-streams").servers == rung("broker").servers
    for unknown in ("broker:4", "broker:3-partitions", "broker:2-projectors-4-partitions", "broker:"):
        with pytest.raises(KeyError):
            rung(unknown)
