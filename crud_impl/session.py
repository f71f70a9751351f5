"""How a connection to PostgreSQL is opened, by every client and every step. psycopg alone parses the address, and
every setting that an answer depends on is set: the defaults of a role, a database or the environment change none.

They are set by a statement, not by startup options, which poolers drop or refuse; the user's own options stay below.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

CONNECT_S_MAX = 2
NETWORK: dict[str, Any] = {
    "connect_timeout": CONNECT_S_MAX,
    # A host that disappears sends no error: without keepalives a connection would wait for it for hours.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "lock_timeout": "0",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",  # the relay's horizon waits for the oldest open transaction
    "idle_session_timeout": "0",
}
UNHURRIED = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}  # of a step, which may take long
STATE = "current_setting('server_encoding'), pg_is_in_recovery(), current_setting('session_replication_role')"


class WrongServer(psycopg.OperationalError):
    """The server answers, but nothing may be kept in it."""


def address_of(url: str) -> dict[str, Any]:
    """psycopg's parameters of an address; ours where it names none. The encoding from the start: in another, the
    answer that verifies it could not be read."""
    return NETWORK | conninfo_to_dict(url) | {"client_encoding": "UTF8"}


async def open_session(address: Mapping[str, Any], schema: str, *, standby: bool = False) -> psycopg.AsyncConnection:
    """A connection in autocommit that finds its tables in `schema`, on a primary unless a `standby` is wanted."""
    driver = await psycopg.AsyncConnection.connect(**address, autocommit=True, prepare_threshold=1)
    try:
        async with asyncio.timeout(CONNECT_S_MAX):  # a pooler may let us in and then have no session for us
            cursor = await driver.execute(*_settings(driver, schema, {}), prepare=False)
            _verify(await cursor.fetchone(), standby)
    except BaseException:
        await driver.close()
        raise
    return driver


def open_step(url: str, schema: str) -> psycopg.Connection:
    """The same for a step that takes as long as it takes: loading, rebuilding."""
    driver = psycopg.connect(**address_of(url), autocommit=True)
    try:
        _verify(driver.execute(*_settings(driver, schema, UNHURRIED)).fetchone())
    except BaseException:
        driver.close()
        raise
    return driver


def _settings(driver: psycopg.BaseConnection[Any], schema: str, other: dict[str, str]) -> tuple[bytes, list[str]]:
    """One statement that makes all settings, and asks for what cannot be set."""
    quoted = '"' + schema.replace('"', '""') + '"'
    settings = SETTINGS | {"search_path": quoted} | other
    if driver.info.server_version >= 170_000:
        settings["transaction_timeout"] = "0"
    words = [word for pair in settings.items() for word in pair]
    return f"SELECT {STATE}{', set_config(%s, %s, false)' * len(settings)}".encode(), words


def _verify(row: Any, wanted_standby: bool = False) -> None:
    encoding, standby, role = row[:3]
    if encoding != "UTF8":
        raise WrongServer(f"the database is encoded in {encoding}, not in UTF8")
    if standby != wanted_standby:
        raise WrongServer("it is a standby, which takes no writes" if standby else "it is no standby")
    if role != "origin":
        raise WrongServer(f"session_replication_role is {role}, so foreign keys are not checked")


def message_of(error: BaseException) -> str:
    """What the server said, without the values that a statement held."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{error.diag.message_primary} ({error.sqlstate})"
    return str(error) or type(error).__name__
