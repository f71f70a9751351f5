"""However `crossover serve` ends, no process, no socket and no folder of it remains."""

import contextlib
import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from crossover.namespaces import drop_namespace, fresh_namespace
from crossover.places import make_place, state_dir
from crossover.processes import alive, household
from crossover.servers import start_postgres, start_valkey
from crossover.targets import process_env
from tests.family import GONE_S_MAX, children_of, descendants, folders_of, gone, keepers_of
from tests.service import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")

SERVE = [sys.executable, "-m", "crossover.cli", "serve"]
OWN_SERVERS = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}


@dataclass
class Served:
    """A running `crossover serve`, and everything that it started."""

    command: subprocess.Popen[str]
    keeper: int
    family: dict[int, str]  # pid → command line
    folder: Path
    sockets: Path

    def pid_of(self, words: str) -> int:
        (pid,) = (pid for pid, line in self.family.items() if words in line)
        return pid

    def leaves_nothing(self) -> None:
        gone(self.family | {self.keeper: ""}, [self.folder, self.sockets])

    def said_last(self) -> str:
        return self.command.communicate(timeout=GONE_S_MAX)[1]


def keeper_of(command: subprocess.Popen[str]) -> int:
    wait_until(lambda: bool(keepers_of(command.pid)), GONE_S_MAX)
    return keepers_of(command.pid)[0]


@contextlib.contextmanager
def served(rung: str) -> Iterator[Served]:
    command = subprocess.Popen(
        [*SERVE, rung, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=OWN_SERVERS,
        start_new_session=True,
    )
    try:
        assert command.stdout is not None
        first = command.stdout.readline()
        assert "is served at http://127.0.0.1:" in first, command.communicate()[1]
        keeper = keeper_of(command)
        folder, sockets = folders_of(keeper)
        assert folder.exists()
        assert sockets.exists()
        yield Served(command, keeper, descendants(keeper), folder, sockets)
    finally:
        command.kill()  # a test that failed must not leave it; its keeper then cleans up
        command.communicate()


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_a_signal_to_serve_leaves_nothing_behind(sent: signal.Signals, code: int) -> None:
    with served("cqrs") as it:
        assert len(it.family) >= 4, "app, projector, PostgreSQL and Valkey run"
        it.command.send_signal(sent)
        assert it.command.wait(GONE_S_MAX) == code
        it.leaves_nothing()


def test_ctrl_c_twice_leaves_nothing_behind() -> None:
    with served("cqrs") as it:
        os.killpg(it.command.pid, signal.SIGINT)
        os.killpg(it.command.pid, signal.SIGINT)
        it.command.wait(GONE_S_MAX)
        it.leaves_nothing()


def test_closing_the_terminal_leaves_nothing_behind() -> None:
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*SERVE, "crud", "--port", "0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=OWN_SERVERS,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # the terminal becomes its own
    )
    os.close(theirs)
    shown = b""
    while b"is served at" not in shown:
        shown += os.read(ours, 4096)
    keeper = keeper_of(command)
    it = Served(command, keeper, descendants(keeper), *folders_of(keeper))
    os.close(ours)
    command.wait(GONE_S_MAX)
    it.leaves_nothing()


@pytest.mark.parametrize("words", ["ladder.serving app", "ladder.serving worker", "postgres -D", "valkey-server"])
def test_the_crash_of_a_child_ends_serve_with_one_sentence(words: str) -> None:
    with served("cqrs") as it:
        os.kill(it.pid_of(words), signal.SIGKILL)
        assert it.command.wait(GONE_S_MAX) == 1
        it.leaves_nothing()
        sentence = it.said_last()
        assert "so everything was stopped" in sentence
        assert "Traceback" not in sentence


def test_serve_survives_the_loss_of_its_keeper_and_cleans_up_itself() -> None:
    with served("cqrs") as it:
        os.kill(it.keeper, signal.SIGKILL)
        assert it.command.wait(GONE_S_MAX) == 1
        it.leaves_nothing()
        assert "keeper" in it.said_last()


def test_what_a_killed_pair_left_is_swept_at_the_next_start() -> None:
    with served("cqrs") as it:
        it.command.send_signal(signal.SIGSTOP)  # so that it cannot clean up for its keeper
        os.kill(it.keeper, signal.SIGKILL)
        it.command.kill()
        it.command.wait(GONE_S_MAX)
        wait_until(lambda: not [pid for pid in it.family if alive(pid)], GONE_S_MAX)
        with household():
            assert not it.folder.exists()
            assert not it.sockets.exists()


def test_a_kill_while_the_servers_start_leaves_nothing_behind() -> None:
    command = subprocess.Popen(
        [*SERVE, "cqrs", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        env=OWN_SERVERS,
    )
    keeper = keeper_of(command)
    it = Served(command, keeper, {}, *folders_of(keeper))
    wait_until(lambda: bool(children_of(keeper)), GONE_S_MAX)
    it.family = descendants(keeper)
    command.kill()
    command.wait()
    it.leaves_nothing()


def test_a_running_owners_folder_is_not_swept() -> None:
    with household() as held:
        other = make_place(state_dir())
        os.close(other.owned)
        other.remove()
        assert held.place.folder.exists()


def test_private_servers_listen_on_no_tcp_port() -> None:
    with household() as held:
        start_postgres(held)
        start_valkey(held)
        inodes = {
            os.readlink(fd)
            for pid in (held.pids["postgres"], held.pids["redis"])
            for fd in Path(f"/proc/{pid}/fd").iterdir()
            if os.readlink(fd).startswith("socket:")
        }
        tcp = [
            line.split()[9]
            for table in ("tcp", "tcp6")
            if (file := Path("/proc/net") / table).exists()
            for line in file.read_text().splitlines()[1:]
        ]
        assert not inodes & {f"socket:[{inode}]" for inode in tcp}
        assert held.place.sockets.stat().st_mode & 0o066 == 0, "nobody else may list or write"


def test_socket_paths_stay_short_under_a_long_temp_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    place = make_place(tmp_path / "state")
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            (place.sockets / "postgres").mkdir()
            listening.bind(str(place.sockets / "postgres" / ".s.PGSQL.5432"))
    finally:
        os.close(place.owned)
        place.remove()


def test_a_fleeting_namespace_is_dropped_from_given_servers_at_the_end(postgres_url: str, redis_url: str) -> None:
    ours, theirs = fresh_namespace("test"), fresh_namespace("test")
    with psycopg.connect(postgres_url, autocommit=True) as connection, redis.Redis.from_url(redis_url) as store:
        for name in (ours, theirs):
            connection.execute(f"CREATE SCHEMA {name}")
            store.set(f"{name}:key", "value")
        with household() as held:
            env = process_env({"DATABASE_URL": postgres_url, "REDIS_URL": redis_url})
            held.finally_run([sys.executable, "-m", "crossover.namespaces", ours], env=env)
        left = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", [[ours, theirs]]
        ).fetchall()
        assert left == [(theirs,)]
        assert [store.exists(f"{name}:key") for name in (ours, theirs)] == [0, 1]
        drop_namespace(theirs, postgres_url, redis_url)
        assert not store.exists(f"{theirs}:key")
