"""However a command ends, no process, no socket and no folder of it remains."""

import contextlib
import fcntl
import os
import pty
import shutil
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

from crossover.targets import ladder_command, process_env, start_servers, target_env
from servers.folders import make_run_directory
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import Failed, fresh_namespace
from servers.supervisor import Processes
from tests.family import GONE_S_MAX, children_of, descendants, folders_of, gone, reapers_of
from tests.service import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")

SERVE = [sys.executable, "-m", "crossover.cli", "serve"]
OWN_SERVERS = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# A child that ignores SIGTERM, and has a child of its own in its group.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


@dataclass
class Served:
    """A running `crossover serve`, and everything that it started."""

    command: subprocess.Popen[str]
    family: dict[int, str]  # pid → command line
    folders: tuple[Path, Path]

    @property
    def reaper(self) -> int:
        return self.pid_of("reaper.py")

    def pid_of(self, words: str) -> int:
        (pid,) = (pid for pid, line in self.family.items() if words in line)
        return pid

    def leaves_nothing(self) -> None:
        gone(self.family, list(self.folders))

    def said_last(self) -> str:
        return self.command.communicate(timeout=GONE_S_MAX)[1]


def started(command: "subprocess.Popen[str]") -> Served:
    wait_until(lambda: bool(reapers_of(command.pid)), GONE_S_MAX)
    return Served(command, descendants(command.pid), folders_of(reapers_of(command.pid)[0]))


@contextlib.contextmanager
def served(rung: str, **servers: str) -> Iterator[Served]:
    """With servers of its own, but for those that are given by their variables."""
    pipes, env = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}, OWN_SERVERS | servers
    command = subprocess.Popen([*SERVE, rung, "--port", "0"], text=True, env=env, start_new_session=True, **pipes)
    try:
        assert command.stdout is not None
        first = command.stdout.readline()
        assert "is served at http://127.0.0.1:" in first, command.communicate()[1]
        it = started(command)
        assert all(folder.exists() for folder in it.folders)
        yield it
    finally:
        command.kill()  # a test that failed must not leave it; its reaper then cleans up
        command.communicate()


@pytest.mark.parametrize(
    ("rung", "sent", "codes"),
    [
        ("cqrs", ["SIGINT"], {130}),
        pytest.param("crud", ["SIGINT", "SIGINT"], {130, -2}, marks=pytest.mark.long),  # Ctrl-C twice
        pytest.param("noop", ["SIGTERM"], {143}, marks=pytest.mark.long),
        pytest.param("noop", ["SIGHUP"], {129}, marks=pytest.mark.long),
        pytest.param("cqrs", ["SIGKILL"], {-9}, marks=pytest.mark.long),
    ],
)
def test_a_signal_to_serve_leaves_nothing_behind(rung: str, sent: list[str], codes: set[int]) -> None:
    with served(rung) as it:
        parts = {"noop": 2, "crud": 3, "cqrs": 5}[rung]
        assert len(it.family) >= parts, "reaper and app run, then PostgreSQL, then a projector and Valkey, too"
        for name in sent:
            os.killpg(it.command.pid, signal.Signals[name])
        assert it.command.wait(GONE_S_MAX) in codes
        it.leaves_nothing()


@pytest.mark.long
def test_closing_the_terminal_leaves_nothing_behind() -> None:
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*SERVE, "noop", "--port", "0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        text=True,
        env=OWN_SERVERS,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # the terminal becomes its own
    )
    os.close(theirs)
    shown = b""
    while b"is served at" not in shown:
        shown += os.read(ours, 4096)
    it = started(command)
    os.close(ours)
    command.wait(GONE_S_MAX)
    it.leaves_nothing()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        pytest.param("ladder.run worker", ("DATABASE_URL", "REDIS_URL"), marks=pytest.mark.long),
        pytest.param("ladder.run app", ("DATABASE_URL", "REDIS_URL"), marks=pytest.mark.long),
        pytest.param("postgres -D", ("REDIS_URL",), marks=pytest.mark.long),
        pytest.param("valkey-server", ("DATABASE_URL",), marks=pytest.mark.long),
        ("reaper.py", ()),
    ],
)
def test_the_crash_of_a_child_ends_serve_with_one_sentence(
    words: str, given: tuple[str, ...], postgres_url: str, redis_url: str
) -> None:
    urls = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_url}
    with served("cqrs", **{variable: urls[variable] for variable in given}) as it:
        os.kill(it.pid_of(words), signal.SIGKILL)
        assert it.command.wait(GONE_S_MAX) == 1
        it.leaves_nothing()  # without its reaper it cleans up by itself
        sentence = it.said_last()
        assert f"was killed{'' if words == 'reaper.py' else ' by signal 9'}, so everything was stopped" in sentence
        assert "Traceback" not in sentence


@pytest.mark.long
def test_the_kernel_ends_the_children_of_a_command_that_is_killed_with_its_reaper() -> None:
    with served("crud") as it:
        it.command.send_signal(signal.SIGSTOP)  # so that it cannot clean up for its reaper
        os.kill(it.reaper, signal.SIGKILL)
        it.command.kill()
        it.command.wait(GONE_S_MAX)
        gone(it.family, [])
        for folder in it.folders:
            shutil.rmtree(folder)  # nobody was left to do it


def test_a_kill_while_the_servers_start_leaves_nothing_behind() -> None:
    nothing = subprocess.DEVNULL
    command = subprocess.Popen(
        [*SERVE, "cqrs", "--port", "0"], stdout=nothing, stderr=nothing, text=True, env=OWN_SERVERS
    )
    wait_until(lambda: len(children_of(command.pid)) > 1, GONE_S_MAX)
    it = started(command)
    command.kill()
    command.wait()
    it.leaves_nothing()


def test_a_child_that_ignores_its_signal_and_its_own_child_are_ended(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        stubborn = processes.start("stubborn", [sys.executable, "-c", STUBBORN], env=process_env({}), stop=(15, 0.1))
        wait_until(lambda: bool(processes.last_lines("stubborn")))
        grandchild = int(processes.last_lines("stubborn"))
    gone({stubborn: "", grandchild: ""}, [processes.folder, processes.sockets])


def test_a_child_that_was_waited_for_is_struck_off_so_that_its_number_may_be_used_again(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        assert processes.run("short", [sys.executable, "-c", "raise SystemExit(3)"], env=process_env({})) == 3
        other = subprocess.Popen(SLEEP, start_new_session=True)  # stands for one with a number used again
        os.write(processes.pipe, b'{"started": %d, "stop": [15, 0.1]}\n{"ended": %d}\n' % (other.pid, other.pid))
    assert other.poll() is None, "the reaper ends nothing that it was told has ended"
    other.kill()
    other.wait()


def test_what_is_waited_for_in_vain_is_told(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(Failed, match=r"Waited 0\.05 s for the moon, in vain"):
        processes.wait(lambda: False, "the moon", 0.05)


def test_a_server_that_ends_while_it_starts_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes, pytest.raises(Failed, match=r"ended while starting(.|\n)*maxmemory-policy"):
        REDIS.start(processes, maxmemory_policy="no-such-policy")


def test_private_servers_listen_on_no_tcp_port() -> None:
    with Processes() as processes:
        start_servers(processes, ["cqrs"])
        inodes = {
            os.readlink(fd)
            for pid in (processes.pids["postgres"], processes.pids["redis"])
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
        assert processes.sockets.stat().st_mode & 0o066 == 0, "nobody else may list or write"
        if os.geteuid() == 0:
            assert Path(f"/proc/{processes.pids['postgres']}").stat().st_uid != 0, "PostgreSQL runs as nobody"


def test_socket_paths_stay_short_under_a_long_temp_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    _, sockets = make_run_directory(tmp_path / "state")
    path = POSTGRES.socket(sockets / "postgres")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    path.unlink()
    path.parent.rmdir()
    sockets.rmdir()


def test_an_ephemeral_namespace_is_dropped_from_given_servers_at_the_end(postgres_url: str, redis_url: str) -> None:
    ours, theirs = fresh_namespace("test"), fresh_namespace("test")
    urls = {"postgres": postgres_url, "redis": redis_url}
    with psycopg.connect(postgres_url, autocommit=True) as connection, redis.Redis.from_url(redis_url) as store:
        for name in (ours, theirs):
            connection.execute(f"CREATE SCHEMA {name}")
            store.set(f"{name}:key", "value")
        with Processes() as processes:
            env = process_env(target_env("cqrs", urls, namespace=ours))
            processes.at_end(ladder_command("drop", "cqrs"), env=env)
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", [[ours, theirs]])
        assert found.fetchall() == [(theirs,)]
        assert [store.exists(f"{name}:key") for name in (ours, theirs)] == [0, 1]
        POSTGRES.drop(postgres_url, theirs)
        REDIS.drop(redis_url, theirs)
        assert not store.exists(f"{theirs}:key")
