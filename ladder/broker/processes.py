"""The processes of the rung `broker`: how the relay, the projectors and a rebuild are put together."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from contract.ports import Worker
from contract.position import Position
from cqrs_impl.documents.members import RedisMembers
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys, claim_parts, layout
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import history_of
from cqrs_impl.feeds.partition import LogPart, PartitionFeed
from cqrs_impl.feeds.relay import RELAYS, Notes, Relay
from cqrs_impl.notifications import Notifications, NotificationsOfParts, RedisCounts
from cqrs_impl.part import Part
from cqrs_impl.projector import Projector
from cqrs_impl.projectors import Projectors
from crud_impl.connections import Database
from ladder.broker.transports import PROJECTORS, TRANSPORTS, Carried, Transport
from ladder.connections import POOL_TIMEOUT_S, connect, partitions, redis_client
from ladder.environment import Environment
from ladder.rung import CONSUMER, Rung
from servers.postgres import POSTGRES
from servers.redis import REDIS

TRANSPORT = "redis-streams"  # unless another is chosen


def transport(one: Rung) -> Transport:
    return TRANSPORTS[one.chosen.get("transport", TRANSPORT)]


def keys(env: Environment, one: Rung) -> PartKeys:
    """For what concerns all parts; any of them will do."""
    return PartKeys(env.namespace, Part(0, partitions(one)))


def claim(env: Environment, one: Rung) -> None:
    """Prepare the broker and the read store for this log, in so many partitions."""
    POSTGRES.create_schema(env.url(POSTGRES), env.namespace, RELAYS)
    transport(one).prepare(env, carried(one))
    present = partial(history_of, env.url(POSTGRES), env.namespace)
    claim_parts(env.url(REDIS), env.namespace, partitions(one), present)


def worker_names(projectors: int) -> tuple[str, ...]:
    return ("relay", *(("projector",) if projectors == 1 else (f"projector-{n}" for n in range(1, projectors + 1))))


def carried(one: Rung) -> Carried:
    return Carried(partitions(one), (PROJECTORS, *((CONSUMER,) if one.consumed else ())))


def processes(env: Environment, one: Rung) -> Mapping[str, Worker]:
    build: dict[str, Callable[[Environment, Rung], Worker]] = {"relay": _relay, CONSUMER: _notifications}
    return {name: build.get(name, partial(_projectors, name))(env, one) for name in one.worker_names}


def projectors(env: Environment, one: Rung) -> Projectors:
    """As of a single process."""
    return _projectors(one.worker_names[1], env, one)


def rebuild(env: Environment, one: Rung, progress: Callable[[int, int], None]) -> int:
    """From the outbox, past the broker, which then begins where the views are."""

    async def rebuilt() -> int:
        done, reached = await projectors(env, one).rebuild(progress)
        await _note(env, one, reached)
        return done

    return asyncio.run(rebuilt())


def _relay(env: Environment, one: Rung) -> Relay:
    publisher = transport(one).publisher(env, carried(one))
    log = OutboxFeed(connect(env), env.namespace)
    return Relay(log, _notes(env, one), publisher, partitions(one))


def _notifications(env: Environment, one: Rung) -> NotificationsOfParts:
    def of(part: Part) -> Notifications:
        log = _log(env)
        reader = transport(one).reader(env, carried(one), part.number, CONSUMER)
        feed = PartitionFeed(reader, log, part, once=True)
        return Notifications(feed, log, RedisCounts(redis_client(env), f"{env.namespace}:{part.of}:{part.number}"))

    return NotificationsOfParts([of(Part(number, partitions(one))) for number in range(partitions(one))])


def relay_name(one: Rung) -> str:
    """Each transport in so many partitions is fed from a position of its own."""
    return f"{one.chosen.get('transport', TRANSPORT)}/{partitions(one)}"


def _notes(env: Environment, one: Rung) -> Notes:
    return Notes(Database(connect(env), connections=1, timeout_s=POOL_TIMEOUT_S), relay_name(one))


async def _note(env: Environment, one: Rung, reached: Position) -> None:
    notes, log = _notes(env, one), _log(env)
    try:
        await notes.write(reached, await log.count(reached))
    finally:
        await notes.close()
        await log.close()


def _projectors(name: str, env: Environment, one: Rung) -> Projectors:
    def build(part: Part, from_log: bool) -> Projector:
        log = _log(env)
        reader = transport(one).reader(env, carried(one), part.number, PROJECTORS)
        feed = LogPart(log, part) if from_log else PartitionFeed(reader, log, part)
        documents = PartDocuments(redis_client(env), PartKeys(env.namespace, part), log.present)
        return Projector(feed, log, documents, part=part)

    members = RedisMembers(redis_client(env), layout(env.namespace, partitions(one)))
    return Projectors(name, _log(env), partitions(one), members, build)


def _log(env: Environment) -> OutboxFeed:
    """For those that wait for the broker, not for the outbox."""
    return OutboxFeed(connect(env), None)
