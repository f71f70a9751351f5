"""New: read tables shaped like the answers, updated in the command's own transaction."""

import psycopg

from contract.ports import OrderSystem
from cqrs_impl.read.table_queries import TableQueries
from cqrs_impl.system import CqrsOrders
from cqrs_impl.write.commands import Commands
from cqrs_impl.write.view_tables import REBUILD, VIEW_TABLES, ViewTables
from crud_impl.connections import SCHEMA
from ladder.connections import database
from ladder.environment import Environment
from ladder.rung import Progress, Rung
from servers.postgres import POSTGRES


class Views(Rung):
    name, parent = "views", "handlers"
    idea = "Read tables shaped like the answers, updated in the command's own transaction."
    servers = (POSTGRES,)

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, SCHEMA + VIEW_TABLES)

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        return CqrsOrders(tables, Commands(tables, ViewTables(), env.clock), TableQueries(tables.rows))

    def rebuild(self, env: Environment, progress: Progress) -> int:
        options = f"-c search_path={env.namespace} -c statement_timeout=0"
        with psycopg.connect(env.url(POSTGRES), options=options) as connection:
            connection.execute(REBUILD.encode())
            row = connection.execute("SELECT count(*) FROM order_views").fetchone()
            return row[0] if row else 0


RUNG = Views()
