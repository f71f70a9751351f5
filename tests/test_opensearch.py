"""The server of the search engine: what is said of one that cannot be used, and what is left after it was killed."""

import asyncio
import os
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from contract.errors import StoreGone
from cqrs_impl.projector import Projector
from cqrs_impl.search.client import Reply, SearchClient
from cqrs_impl.search.indexes import Indexes
from cqrs_impl.search.store import IndexedDocuments
from servers import artifacts
from servers.opensearch import OPENSEARCH
from servers.server import Unusable
from servers.supervisor import Processes
from tests.service import in_thread, wait_until
from tests.story import ListFeed, events, followed, to_the_end
from tests.test_cli import refused

LEADS = "OPENSEARCH_URL leads to something else: give the address of an OpenSearch or Elasticsearch."
NUMBERS = {"/old": ("1.3.2", "opensearch"), "/elastic": ("7.17.1", None), "/new": ("3.9.0", "opensearch")}
SAID = {  # by path of a server that is not the one that is needed
    "/old": "The OpenSearch at OPENSEARCH_URL is 1.3.2: 2 or newer is needed.",
    "/elastic": "The Elasticsearch at OPENSEARCH_URL is 7.17.1: 8 or newer is needed.",
    "/login": "OPENSEARCH_URL refuses its user (status 401): correct the user or the password.",
    "/forbidden": "OPENSEARCH_URL refuses its user (status 403): correct the user or the password.",
    "/page": LEADS,
    "/list": LEADS,
    "/other": LEADS,
    "/busy": "OPENSEARCH_URL refuses (no master): correct what it names.",
}


async def answer(request: Request) -> Response:
    path = f"/{request.path_params['what']}"
    if path in NUMBERS:
        number, distribution = NUMBERS[path]
        return JSONResponse({"version": {"number": number, "distribution": distribution, "lucene_version": "9"}})
    bodies: dict[str, Response] = {
        "/login": PlainTextResponse("Unauthorized", 401),
        "/forbidden": JSONResponse({"error": {"reason": "geheim"}}, 403),
        "/page": PlainTextResponse("<html>Welcome</html>"),
        "/list": JSONResponse([]),
        "/other": JSONResponse({"version": "1.0"}),
        "/busy": JSONResponse({"error": {"reason": "no master"}}, 503),
    }
    return bodies[path]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with in_thread(Starlette(routes=[Route("/{what}/", answer)])) as url:
        yield url.replace("//", "//me:geheim@")


@pytest.mark.parametrize("path", SAID)
def test_a_server_that_is_not_what_is_needed_is_refused_in_one_sentence(path: str, elsewhere: str) -> None:
    with pytest.raises(Unusable) as refusal:
        OPENSEARCH.check(elsewhere + path)
    assert str(refusal.value) == SAID[path]


def test_a_request_that_a_busy_engine_refuses_is_sent_again_and_no_other() -> None:
    told = iter([429, 503, 200, 500])

    async def busy(request: Request) -> Response:
        return JSONResponse({"error": {"type": "circuit_breaking_exception", "reason": "full"}}, next(told))

    async def asked(url: str) -> int:
        client = SearchClient(url, dict, timeout_s=10)
        first = await client.ask("GET", "/")
        with pytest.raises(StoreGone):
            await client.ask("GET", "/")
        await client.close()
        return first.status

    with in_thread(Starlette(routes=[Route("/", busy)])) as url:
        assert asyncio.run(asked(url)) == 200 and not list(told)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://me:geheim@127.0.0.1:9", "OPENSEARCH_URL cannot be reached (Cannot connect to host 127.0.0.1:9 ssl:"),
        ("127.0.0.1:9200", "OPENSEARCH_URL is no address: give http://host:9200, or https://user:password@host:9200?"),
        ("http://127.0.0.1:9200?user=geheim", "OPENSEARCH_URL is no address: give http://host:9200, or https://user:"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_in_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(Unusable) as refusal:
        OPENSEARCH.check(url)
    said = str(refusal.value)
    assert said.startswith(sentence) and said.endswith(".") and "\n" not in said and "geheim" not in said


def test_serve_says_what_brings_an_engine_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "cache_dir", lambda: tmp_path)
    assert refused("serve", "search", "--port", "0") == (
        "OpenSearch is not installed: run `crossover servers install opensearch`, or set OPENSEARCH_URL to your own."
    )


@pytest.mark.long
def test_an_engine_that_is_killed_between_writes_shows_nothing_older_over_newer_and_nothing_is_lost() -> None:
    """It may lose its last writes, of documents and of the checkpoint, and gives their numbers again."""
    try:
        OPENSEARCH.private()
    except Unusable as reason:
        pytest.skip(str(reason))
    story = list(islice(events(Random(5)), 60))

    with Processes() as run:
        address = OPENSEARCH.address(OPENSEARCH.start(run))
        client = SearchClient(address.url, address.settings, timeout_s=60)
        indexes, whole = (Indexes(client, f"crossover_{name}", "1h") for name in ("killed", "whole"))
        store, feed, ask = IndexedDocuments(indexes), ListFeed([]), client.ask
        projector = Projector(feed, feed, store, apply=store.apply, batch_max=7)

        async def cut_off() -> None:
            """A batch whole, and of the next, which is larger, the documents, but not the checkpoint."""
            left = iter((ask, None))

            async def lossy(method: str, path: str, body: object | None = None) -> Reply:
                if "_doc/checkpoint?" not in path:
                    return await ask(method, path, body)
                if (goes_on := next(left)) is None:
                    raise StoreGone("cut off")
                return await goes_on(method, path, body)

            client.ask = lossy  # type: ignore[method-assign]
            with pytest.raises(StoreGone, match="cut off"):
                await to_the_end(projector, feed)
            client.ask = ask  # type: ignore[method-assign]
            await client.close()

        async def contents() -> list[dict[str, object]]:
            found = []
            await to_the_end(projector, feed)
            another = IndexedDocuments(whole)
            await followed(another, feed, apply=another.apply)
            for one in (indexes, whole):
                await one.make_searchable(one.namespace)
                query = {"query": {"bool": {"must_not": {"ids": {"values": ["checkpoint"]}}}}, "size": 1_000}
                hits = msgspec.json.decode(await one.post(f"/{one.namespace}/_search", query) or b"")["hits"]["hits"]
                found.append({hit["_id"]: hit["_source"] for hit in hits})
            await client.close()
            return found

        for upto in (25, 50):
            feed.events[:] = story[:upto]
            asyncio.run(cut_off())
            os.kill(run.pids["opensearch"], signal.SIGKILL)
            wait_until(lambda: run.poll() or "opensearch" in run.ended)
            OPENSEARCH.restart(run)
        feed.events[:] = story
        killed, never = asyncio.run(contents())
        assert killed == never and len(killed) > 10
