"""Connection poolers before PostgreSQL: a client of one that shares sessions loses what its connection has set."""

import asyncio
from typing import Any

import psycopg

from servers.server import Unusable, without_secrets

POOLER_S_MAX = 3.0


async def refuse_shared_sessions(variable: str, url: str, count: int) -> None:
    """Behind a pooler: each of so many connections must have a session, and keep it when others begin transactions."""
    opened: list[psycopg.AsyncConnection] = []

    async def backends() -> list[Any]:
        return [await (await one.execute("SELECT pg_backend_pid()")).fetchone() for one in opened]

    try:
        async with asyncio.timeout(POOLER_S_MAX):
            while len(opened) < count:
                one = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5)
                opened.append(one)
            first = await backends()
            opened.reverse()
            try:
                for one in opened:
                    await one.execute("BEGIN")
                kept = await backends() == first[::-1]
            except psycopg.Error:  # statement mode knows no transactions
                kept = False
    except (psycopg.Error, TimeoutError) as error:
        reason = without_secrets(str(error).strip(), url) or "it does not answer"
        raise Unusable(
            f"{variable} leads to a connection pooler that does not give {count} sessions at once ({reason}): raise"
            " its pool size, or give the address of PostgreSQL itself."
        ) from None
    finally:
        for one in opened:
            await one.close()
    if len(set(first)) < count or not kept:
        raise Unusable(
            f"{variable} leads to a connection pooler that shares its sessions between clients (transaction or"
            " statement mode): set it to session mode, or give the address of PostgreSQL itself."
        )
