"""Who is slow, greedy or curious gets nowhere: late requests, full pools, callers without a token, secrets."""

import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contract.http.app import make_app
from contract.ports import utc_now
from crossover.targets import Target, listen
from ladder.connections import POOL_CONNECTIONS
from ladder.noop.system import MemoryOrders
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.supervisor import Processes
from tests.conftest import one_short
from tests.service import fresh_id, in_thread, wait_until
from tests.test_cli import crossover, outcome_of

HALVES = {
    "head": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "body": b"PUT /customers/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    % fresh_id().encode(),
    "second": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n\r\n",  # one request in whole, then nothing but line ends
}


@pytest.mark.parametrize("half", HALVES)
def test_two_hundred_that_trickle_are_cut_and_keep_nobody_waiting(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladder.arrival.ARRIVE_S_MAX", 3.0)
    with in_thread(make_app(MemoryOrders(utc_now))) as url, contextlib.ExitStack() as stack:
        address = (httpx.URL(url).host, httpx.URL(url).port)
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(200)]
        for one in slow:
            one.sendall(HALVES[half])
            one.setblocking(False)

        def is_cut(one: socket.socket) -> bool:
            with contextlib.suppress(BlockingIOError):
                try:
                    one.send(b"\r\n" if half == "second" else b"x")  # never still for long enough to count as idle
                    while one.recv(4096):
                        pass
                    return True
                except ConnectionError:
                    return True
            return False

        with httpx.Client(base_url=url, timeout=60) as client:
            left, served_beside = slow, 0

            def all_cut() -> bool:
                nonlocal left, served_beside
                assert client.get("/health").status_code == 200
                left = [one for one in left if not is_cut(one)]
                served_beside += bool(left)
                return not left

            wait_until(all_cut)
            assert served_beside, "others are served while these go on"


@pytest.mark.parametrize("rung", one_short(["cqrs", "crud"]))
def test_a_full_pool_refuses_in_a_second_and_forgets_it_when_the_lock_is_gone(
    rung: str, fresh_target: Callable[..., Any]
) -> None:
    target = fresh_target(rung)
    put = lambda _: httpx.put(f"{target.url}/customers/{fresh_id()}", json={"name": "x"}, timeout=60)  # noqa: E731
    options = f"-c search_path={target.env['CROSSOVER_NAMESPACE']}"
    with psycopg.connect(target.env["DATABASE_URL"], options=options) as holder, ThreadPoolExecutor(50) as clients:
        holder.execute("LOCK TABLE customers")
        answers = [clients.submit(put, n) for n in range(POOL_CONNECTIONS * 3)]
        wait_until(lambda: sum(one.done() for one in answers) == POOL_CONNECTIONS * 2)
        assert {one.result().status_code for one in answers if one.done()} == {503}
        assert httpx.get(f"{target.url}/health", timeout=60).status_code == 200
        holder.rollback()
        assert sorted({one.result().status_code for one in answers}) == [201, 503]
    assert put(0).status_code == 201


SECRETS = {"CROSSOVER_TOKEN": "canary-token", "DATABASE_URL": "canary-database", "REDIS_URL": "canary-redis"}
BAD_URLS = [
    ("postgresql://u:canary-database@127.0.0.1:1/x", "redis://:canary-redis@127.0.0.1:1/0"),
    ("postgresql://u:canary-database@[::1/x", "redis://:canary-redis@127.0.0.1:port/0"),
    ("postgresql://u:canary-database@h:port/x", "canary-redis@127.0.0.1"),
    ("canary-database", "http://:canary-redis@h"),
    ("postgresql://u:canary-database@h/x?nope=1", "redis://:canary-redis@h/0?protocol=x"),
]


def tells(*texts: str) -> list[str]:
    return [secret for secret in SECRETS.values() for text in texts if secret in text]


@pytest.mark.parametrize("bad", one_short(BAD_URLS))
def test_no_sentence_about_a_bad_address_tells_its_secret(postgres_url: str, bad: tuple[str, str]) -> None:
    database_url, redis_url = bad
    for words in ("doctor", "serve cqrs --port 0", "rebuild cqrs", "parked cqrs"):
        for urls in ({"DATABASE_URL": database_url}, {"DATABASE_URL": postgres_url}):
            code, said = outcome_of(
                *words.split(), **{"REDIS_URL": redis_url, "CROSSOVER_TOKEN": "canary-token"} | urls
            )
            assert code in (1, 2) and not tells(said), said


@pytest.mark.long
def test_no_result_log_or_traceback_tells_a_secret(tmp_path: Path) -> None:
    with Processes() as processes:
        url = POSTGRES.start(processes)
        env = {
            "DATABASE_URL": url.replace("crossover@", f"crossover:{SECRETS['DATABASE_URL']}@"),
            "REDIS_URL": REDIS.start(processes, requirepass=SECRETS["REDIS_URL"]),
            "CROSSOVER_TOKEN": SECRETS["CROSSOVER_TOKEN"],
        }
        for words in (f"compare --rungs cqrs --size empty --read-shares 90 --out {tmp_path / 'run'}", "doctor"):
            ended = crossover(*words.split(), within_s=900, **env)
            assert ended.returncode == 0, ended.stderr
            assert not tells(ended.stdout, ended.stderr)
        files = [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) > 5 and not tells(*files)

        placed = Target("it", "cqrs", env | {"CROSSOVER_NAMESPACE": "crossover_it"}, processes)
        placed.prepare(private=True)
        target = placed.launch(listen("0.0.0.0", 0))
        assert httpx.get(f"{target.url}/health", timeout=60).status_code == 401
        bearer = {"Authorization": f"Bearer {SECRETS['CROSSOVER_TOKEN']}"}
        processes.stop("redis")
        processes.stop("postgres")
        for path in (f"/customers/{fresh_id()}", "/ready", "/metrics"):
            answer = httpx.get(target.url + path, headers=bearer, timeout=60)
            assert answer.status_code in (200, 503) and not tells(answer.text)
        target.stop()
        logs = [log.read_text() for log in processes.folder.rglob("*.log")]
        assert logs and not tells(*logs)
