"""New: a search engine answers searches, from an index with a projector of its own beside that of the views."""

from collections.abc import Mapping

from contract.ports import OrderSystem, Worker
from cqrs_impl.commands import Commands
from cqrs_impl.documents.redis import Keys
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import Outbox, OutboxBacklog
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from cqrs_impl.search.reads import SearchReads
from cqrs_impl.search.store import IndexedDocuments
from cqrs_impl.search.system import SearchedOrders
from ladder.connections import connect, database, indexes, redis_client
from ladder.cqrs import Cqrs
from ladder.environment import Environment
from servers.opensearch import OPENSEARCH
from servers.postgres import POSTGRES
from servers.redis import REDIS


class Search(Cqrs):
    name, parent = "search", "cqrs"
    idea = "Searches are answered by a search engine, fed by a projector of its own."
    cost = "One more server, with its memory; what was written is found only after a refresh."
    servers = (POSTGRES, REDIS, OPENSEARCH)
    worker_names = ("projector", "indexer")
    options = {"refresh": ("1s", "forced")}

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        backlog = OutboxBacklog(tables.rows)
        read = RedisReads(redis_client(env), Keys(env.namespace), backlog)
        search = SearchReads(indexes(env, self), backlog, forced=self.chosen.get("refresh") == "forced")
        commands = Commands(tables, Outbox(env.namespace), env.clock)
        return SearchedOrders(tables, commands, DocumentQueries(read), read.leads, search)

    def workers(self, env: Environment) -> Mapping[str, Worker]:
        feed = OutboxFeed(connect(env), env.namespace)
        documents = IndexedDocuments(indexes(env, self), feed.present)
        return {**super().workers(env), "indexer": Projector(feed, feed, documents, apply=documents.apply)}


RUNG = Search()
