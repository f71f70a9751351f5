"""New: the events are the write model. A command folds the events of what it touches, and appends new ones."""

from collections.abc import Mapping

from contract.ports import OrderSystem, Worker
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.event_store.commands import EventCommands
from cqrs_impl.event_store.events import shown
from cqrs_impl.event_store.load import EventCopies, claim_types
from cqrs_impl.event_store.past import EventOrders
from cqrs_impl.event_store.store import EVENT_STORE, SNAPSHOT_EVERY, STREAM_KEYS, EventStore
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import OutboxBacklog
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from ladder.connections import connect, database, redis_client
from ladder.consumers import consumers
from ladder.cqrs import Cqrs
from ladder.environment import Environment
from servers.postgres import POSTGRES


class EventSourced(Cqrs):
    name, parent = "event_sourced", "cqrs"
    idea = "Events are the truth: no tables of current state, a command folds the events of what it touches."
    cost = "Commands replay events; more rows for an order; old events must stay readable."
    schema = EVENT_STORE
    copies = EventCopies
    options = {"": ("no-snapshots",)}

    def prepare(self, env: Environment) -> None:
        super().prepare(env)
        claim_types(env.url(POSTGRES), env.namespace)

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env, keys=STREAM_KEYS)
        read = RedisReads(redis_client(env), Keys(env.namespace), OutboxBacklog(tables.rows))
        store = EventStore(env.namespace, 0 if self.chosen else SNAPSHOT_EVERY)
        return EventOrders(tables, EventCommands(tables, store, env.clock), DocumentQueries(read), read.leads)

    def workers(self, env: Environment) -> Mapping[str, Worker]:
        feed = OutboxFeed(connect(env), env.namespace, shown)
        documents = RedisDocuments(redis_client(env), Keys(env.namespace), feed.present)
        return {"projector": Projector(feed, feed, documents), **consumers(self, env)}


RUNG = EventSourced()
