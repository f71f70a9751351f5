"""New: the views move out to Redis and follow; an outbox carries the events, a projector process applies them."""

from cqrs_impl.carry.outbox_feed import OutboxFeed
from cqrs_impl.projector import Projector
from cqrs_impl.read.keys import Keys
from cqrs_impl.read.redis_queries import RedisQueries
from cqrs_impl.read.redis_views import RedisViews
from cqrs_impl.system import CqrsOrders
from cqrs_impl.write.commands import Commands
from cqrs_impl.write.outbox import OUTBOX, Outbox
from crud_impl.connections import SCHEMA
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = "views"
IDEA = "The reads move to Redis views, fed by an outbox and a projector process."
NEEDS = frozenset({"postgres", "redis"})
TABLES = SCHEMA + OUTBOX
WORKERS: tuple[str, ...] = ("projector",)


def build(env: Environment) -> Rung:
    keys = Keys(env.namespace)
    database = env.database()
    commands = Commands(database, Outbox(env.namespace), env.clock)
    queries = RedisQueries(env.redis(), keys, database.rows)
    feed = OutboxFeed(env.libpq_url(), env.namespace)
    projector = Projector(feed, RedisViews(env.redis(), keys, feed.identity))
    return Rung(CqrsOrders(database, commands, queries), (projector,))
