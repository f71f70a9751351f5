"""What a crash of PostgreSQL may cost: nothing with full durability, the last moments with relaxed, by kills."""

from functools import partial

import psycopg
import pytest

from cqrs_impl.feeds.outbox.recorder import OUTBOX
from crossover.machine import fingerprint
from crossover.targets import serving
from servers.postgres import POSTGRES
from servers.supervisor import Processes
from tests.family import killed
from tests.service import wait_until
from tests.threads import meanwhile

WRITERS, WRITES = 4, 1_000


def writes_lost_in_a_kill(durability: str) -> int:
    with Processes() as processes:
        url = POSTGRES.start(processes, durability=durability)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(OUTBOX)
            before = connection.execute("SELECT outbox_history()").fetchone()
            connection.execute("SET synchronous_commit = on")  # for the table itself, and what came before it
            connection.execute("CREATE TABLE written (writer int, number int)")
        acknowledged: list[tuple[int, int]] = []

        def write(writer: int) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                for number in range(1_000_000):
                    try:
                        connection.execute("INSERT INTO written VALUES (%s, %s)", (writer, number))
                    except psycopg.OperationalError:
                        return
                    acknowledged.append((writer, number))

        writers = [partial(write, writer) for writer in range(WRITERS)]
        with meanwhile(*writers, end=lambda: killed(POSTGRES.process_ids(processes))):
            wait_until(lambda: len(acknowledged) > WRITES)
        processes.wait(lambda: "postgres" in processes.ended, "the end of PostgreSQL", 90)
        with psycopg.connect(POSTGRES.restart(processes, durability=durability)) as connection:
            found = connection.execute("SELECT writer, number FROM written").fetchall()
            assert connection.execute("SELECT outbox_history()").fetchone() != before, "what was lost had positions"
        lost = set(acknowledged) - set(found)
        print(f"{durability}: {len(lost):,} of {len(acknowledged):,} acknowledged writes lost")
        return len(lost)


def test_a_run_records_the_durability_it_had() -> None:
    with serving("crud", durability="relaxed") as target:
        settings = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "off"}
        assert fingerprint([target])["durability"] == settings


def test_with_full_durability_a_kill_loses_no_acknowledged_write() -> None:
    assert writes_lost_in_a_kill("full") == 0


@pytest.mark.long
def test_with_relaxed_durability_a_kill_loses_some_which_shows_that_the_count_can_tell() -> None:
    assert any(writes_lost_in_a_kill("relaxed") for _ in range(5))
