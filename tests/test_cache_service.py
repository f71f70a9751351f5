"""A served cache goes on answering, whatever becomes of its Redis."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from crossover.targets import LOOPBACK, Target, listen
from servers.redis import CACHE
from servers.server import Unusable
from servers.supervisor import Processes
from tests.service import PATIENCE_S, Shop


def test_answers_go_on_while_the_cache_is_emptied_full_paused_gone_or_an_older_one(fresh_target: Any) -> None:
    with Processes() as processes:
        url = CACHE.start(processes, maxmemory="12mb")
        (pid,) = CACHE.process_ids(processes)
        shared = fresh_target("cache")
        placed = Target("it", "cache", shared.env | {CACHE.variable: url}, processes)
        target = placed.launch(listen(LOOPBACK, 0))
        hurts: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "emptied": lambda: CACHE.flush(processes),
            "full": lambda: CACHE.evict(url),
            "paused": lambda: os.kill(pid, signal.SIGSTOP),
            "going on": lambda: os.kill(pid, signal.SIGCONT),
            "gone": lambda: processes.stop(CACHE.name),
            "back": lambda: CACHE.restart(processes),
        }
        with httpx.Client(base_url=target.url, timeout=60) as client:
            shop, pages = Shop(client), list[str]()
            for number, (hurt, do) in enumerate(hurts.items()):
                do()
                customer = shop.customer(f"Ann {number}")
                pages.append(f"/customers/{customer}")
                for page in pages * 3:
                    assert client.get(page).status_code == 200, hurt
                assert client.post(f"{pages[0]}/rename", json={"name": hurt}).status_code == 200
                assert client.get(pages[0]).json()["name"] == hurt
                assert client.get("/ready").status_code == 200, hurt

            def counted(count: str) -> float:
                names = client.get("/metrics").text.splitlines()
                (line,) = [text for text in names if text.startswith(f"cache_{count}_total")]
                return float(line.split()[1])

            def hit(name: str) -> None:
                hits, until_s = counted("hits"), time.monotonic() + PATIENCE_S
                while counted("hits") == hits and time.monotonic() < until_s:
                    assert client.get(pages[0]).json()["name"] == name
                assert counted("hits") > hits

            hit("back")
            with CACHE.failing_over(processes):  # to what it held when this begins
                assert client.post(f"{pages[0]}/rename", json={"name": "since"}).status_code == 200
                assert client.get(pages[0]).json()["name"] == "since"
            hit("since")
            assert all(counted(count) > 0 for count in ("hits", "misses", "bypassed", "loads"))
        target.stop()


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"maxmemory": "0", "maxmemory_policy": "noeviction"}, True),
        ({"maxmemory": "8mb", "maxmemory_policy": "noeviction"}, False),
        ({"maxmemory": "0", "maxmemory_policy": "volatile-lru"}, False),
    ],
)
def test_a_cache_that_neither_evicts_nor_is_bounded_is_refused(settings: dict[str, str], refused: bool) -> None:
    with Processes() as processes:
        url = CACHE.start(processes, **settings)
        if not refused:
            assert CACHE.check(url).settings["maxmemory-policy"] == settings["maxmemory_policy"]
            return
        with pytest.raises(Unusable) as reason:
            CACHE.check(url)
        assert str(reason.value) == (
            "The Redis at CACHE_URL never evicts and has no memory bound: set its maxmemory, and its"
            " maxmemory-policy to allkeys-lru."
        )
