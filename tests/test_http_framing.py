"""Clients of the harness read every legal response alike; none reads an illegal one, or follows where one leads."""

import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from gevent.event import Event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.address import address_of, bearer_of
from loadtests.http import HttpClient, Unreachable, require_contract
from loadtests.plan import BadPlan, Endpoint
from loadtests.response import BadResponse, Response, fields, parse
from loadtests.wire import ConnectionPool
from tests.framing import ANSWERS, ILLEGAL, Answer, legal, sending
from tests.service import PATIENCE_S

TOKEN = "canary-token"


def by_client(url: str) -> Answer | None:
    try:
        found = HttpClient(url, token=TOKEN, resend=False, timeout_s=60).get("/x")
    except Unreachable:
        return None
    return Answer(found.status, found.headers.get("consistency-token", ""), found.body)


def by_generator(url: str) -> Answer | None:
    found, there, pool = list[Answer](), Event(), ConnectionPool(url, token=TOKEN)
    connection = pool.acquire()

    def answered(status: int, body: bytes) -> None:
        found.append(Answer(status, connection.header("consistency-token"), body))
        there.set()

    connection.send(pool.request("GET", "/x"), answered)
    assert there.wait(PATIENCE_S)
    pool.close()
    return found[0] if found[0].status else None


Read = Callable[[str], Answer | None]  # by a client, from this URL; None: it counts as no response
CLIENTS = pytest.mark.parametrize("read", [by_client, by_generator])


def answer_of(response: Response | None) -> Answer | None:
    return response and Answer(response.status, fields(response.head)["consistency-token"], response.body)


@given(legal(), st.data())
@settings(max_examples=200)
def test_every_legal_response_is_read_when_it_is_whole_and_not_before(
    rendered: tuple[Answer, bytes, bool], data: st.DataObject
) -> None:
    answer, text, until_closed = rendered
    assert answer_of(parse(text, ended=True)) == answer
    assert parse(text[: data.draw(st.integers(0, len(text) - 1))]) is None
    assert answer_of(parse(text)) == (None if until_closed else answer)
    if not until_closed:  # what nobody asked for is no answer to the next request
        again = parse(text + b"HTTP/1.1 500 Smuggled\r\n\r\n")
        assert answer_of(again) == answer and again is not None and not again.reusable


@CLIENTS
@given(legal(), st.lists(st.integers(1, 30), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_clients_read_it_alike_from_a_socket_however_it_is_cut_up(
    read: Read, rendered: tuple[Answer, bytes, bool], cuts: list[int]
) -> None:
    answer, rest, _ = rendered
    pieces = list[bytes]()
    for cut in cuts:
        pieces, rest = [*pieces, rest[:cut]], rest[cut:]
    with sending([[*filter(None, pieces), rest]]) as (url, requests):
        assert read(url) == answer
    assert f"Authorization: Bearer {TOKEN}\r\n".encode() in requests[0]


@pytest.mark.parametrize("what", ILLEGAL)
def test_no_illegal_response_is_read_and_nobody_waits_for_more_of_it(what: str) -> None:
    with pytest.raises(BadResponse):
        parse(ILLEGAL[what], ended=what.startswith("cut off"))
    for read in (by_client, by_generator):
        with sending([[ILLEGAL[what]]]) as (url, _):
            assert read(url) is None


@given(ANSWERS)
def test_a_head_request_gets_no_body_whatever_length_is_named(answer: Answer) -> None:
    text = f"HTTP/1.1 {answer.status} \r\nContent-Length: 99\r\nConsistency-Token: a\r\n\r\n".encode()
    assert answer_of(parse(text, bodiless=True)) == Answer(answer.status, "a", b"")


@CLIENTS
def test_a_redirect_is_an_answer_and_nobody_goes_where_it_leads(read: Read) -> None:
    with sending([[b"never"]]) as (elsewhere, asked):
        text = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere}/x\r\nContent-Length: 0\r\n\r\n".encode()
        with sending([[text]] * 9) as (url, _):
            assert read(url) == Answer(307, "", b"")
            with pytest.raises(BadPlan, match="redirects: GET /health answers 307"):
                require_contract("it", HttpClient(url))
    assert not asked


def test_who_sends_byte_by_byte_for_ever_keeps_nobody_longer_than_one_request_may_take() -> None:
    over = threading.Event()

    def dribble() -> bytes:
        over.wait(0.02)
        return b"x"

    with sending([iter(dribble, b"")]) as (url, _), pytest.raises(Unreachable):
        HttpClient(url, timeout_s=0.3).get("/x")


@CLIENTS
def test_a_certificate_that_nobody_vouches_for_is_refused(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    try:
        subprocess.run([*made.split(), "-keyout", "key", "-out", "cert"], cwd=tmp_path, check=True, capture_output=True)
    except OSError:
        pytest.skip("no openssl here, so no certificate to refuse")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with sending([[b"HTTP/1.1 204 \r\n\r\n"]] * 2, tls=context) as (url, requests):
        named = url.replace("http://127.0.0.1", "https://localhost")
        assert read(named) is None and not any(requests)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert read(named) == Answer(204, "", b"")


GOOD = {
    "http://h": ("h", 80, "h", ""),
    "HTTP://H:81/api/": ("h", 81, "H:81", "/api"),
    "https://h": ("h", 443, "h", ""),
    "http://[::1]:8000": ("::1", 8000, "[::1]:8000", ""),
}
BAD = ["", "h", "h:80", "ftp://h", "http://", "http://h:0", "http://h:port", "http://h:99999", "http://h h"]
BAD += ["http://[::1", "http://h\\x", "http://münchen", "http://a..b", f"http://{'a' * 64}.b"]
BAD += ["http://h?token=canary", "http://h/#canary", "http://h\r\nX: canary"]
BAD += ["http://u:canary@h", "http://canary@h", "http://u:p/canary@h"]


@pytest.mark.parametrize("url", GOOD)
def test_an_address_is_read_one_way(url: str) -> None:
    address = address_of(url)
    assert (address.host, address.port, address.authority, address.prefix) == GOOD[url]
    assert address.request("GET", "/x", {}).startswith(
        f"GET {GOOD[url][3]}/x HTTP/1.1\r\nHost: {GOOD[url][2]}".encode()
    )


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("use", [address_of, HttpClient, ConnectionPool])
def test_any_other_is_refused_by_all_without_being_repeated(url: str, use: Callable[[str], object]) -> None:
    with pytest.raises(BadPlan, match="target") as refusal:
        use(url)
    assert "canary" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_token_is_trimmed_and_checked_and_in_no_repr() -> None:
    assert bearer_of(" canary\r\n") == "canary" and bearer_of(" \n") is None and bearer_of(None) is None
    for token in ("a canary", "canary\r\nX: y", "canäry", "canary\0"):
        with pytest.raises(BadPlan, match="CROSSOVER_TOKEN") as refusal:
            bearer_of(token)
        assert "can" not in str(refusal.value).replace("and", "")
    assert "canary" not in repr(Endpoint("a", "http://h", token="canary"))
