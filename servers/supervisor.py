"""The processes of one command: started in groups of their own, watched, and all ended when the command ends."""

import contextlib
import ctypes
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servers import reaper
from servers.folders import make_run_directory, state_dir
from servers.server import Failed

POLITE = (signal.SIGTERM, 5.0)
START_S_MAX = 120.0  # on a busy machine; who ends while starting is noticed at once
REAPER_ENV = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # what it takes to start a Python
PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing may be imported or allocated that another thread could have locked.
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _private(path: str, flags: int) -> int:
    """Opens a file that only its owner can read, whatever the umask."""
    file = os.open(path, flags, 0o600)
    os.fchmod(file, 0o600)
    return file


class Processes:
    """A context manager: on leaving it, no process, socket or folder of it is left."""

    def __init__(self, state: Path | None = None) -> None:
        self.folder, self.sockets = make_run_directory(state or state_dir())
        self.pids: dict[str, int] = {}  # of the latest start under each name
        self.ended: dict[str, int] = {}  # exit status by name
        self.children: dict[str, subprocess.Popen[bytes]] = {}  # those that run
        self._stops: dict[str, tuple[int, float]] = {}
        self._last: reaper.Last = []
        self._lock = threading.RLock()  # one line to the reaper at a time, and one change of what runs
        # A child is told when the *thread* that forked it ends: all are started by one that lives as long as we do.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
        theirs, self.pipe = os.pipe()
        folders = [str(self.folder), str(self.sockets)]
        with open(theirs, "rb") as lines:
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__, *folders],
                env={name: os.environ[name] for name in REAPER_ENV if name in os.environ},
                stdin=lines,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C on the terminal is the command's
            )

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Logs

    def log(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '-')}.log"

    def last_lines(self, name: str, lines: int = 8) -> str:
        log = self.log(name)
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    # Starting and stopping

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        account: pwd.struct_passwd | None = None,
        stop: tuple[int, float] = POLITE,
        listening: socket.socket | None = None,
        cwd: Path | None = None,
        pipes: bool = False,
    ) -> int:
        """Start a child, its output in a log, and return its pid.

        The word "{fd}" in `argv` becomes the number of the `listening` socket. With `pipes`, its standard input and
        output are those of `children[name]`.
        """
        passed = [listening.fileno()] if listening else []
        words = [str(passed[0]) if passed and word == "{fd}" else str(word) for word in argv]

        def spawn() -> subprocess.Popen[bytes]:
            with open(self.log(name), "ab", opener=_private) as log:
                return subprocess.Popen(
                    words,
                    env=dict(env),
                    cwd=cwd or self.folder,
                    stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if pipes else log,
                    stderr=log,
                    pass_fds=passed,
                    start_new_session=True,
                    preexec_fn=self._announce(stop),
                    user=account and account.pw_uid,
                    group=account and account.pw_gid,
                    extra_groups=[] if account else None,
                )

        with self._lock:
            try:
                process = self._starter.submit(spawn).result()
            except (OSError, subprocess.SubprocessError) as error:
                raise Failed(f"Cannot start {name}: {error}.") from None
            self.ended.pop(name, None)
            self.children[name], self._stops[name], self.pids[name] = process, stop, process.pid
        return process.pid

    def _announce(self, stop: tuple[int, float]) -> Callable[[], None]:
        """A child tells the reaper of itself before its exec: there is no moment at which nobody would end it.

        It is also killed with us by the kernel (Linux), in case somebody kills the reaper too. After the change of
        user, which would clear that setting.
        """
        pipe, parent, death = self.pipe, os.getpid(), int(stop[0] if stop[0] == signal.SIGQUIT else signal.SIGKILL)
        rest = b', "stop": %s}\n' % json.dumps([int(stop[0]), stop[1]]).encode()

        def announce() -> None:
            os.write(pipe, b'{"started": %d' % os.getpid() + rest)
            if PRCTL is not None:
                PRCTL(PR_SET_PDEATHSIG, death)
                if os.getppid() != parent:  # it ended before the setting held
                    os._exit(1)

        return announce

    def at_end(self, argv: Sequence[str | Path], *, env: Mapping[str, str]) -> None:
        """Have this run when everything else has ended, however it ends."""
        last = ([str(word) for word in argv], dict(env))
        with self._lock:
            self._last.append(last)
            self._tell({"last": last[0], "env": last[1]})

    def stop(self, name: str) -> None:
        """End one child, and wait until it is gone."""
        if process := self.children.get(name):
            reaper.end_group(process.pid, self._stops[name])
            process.wait()
            self.poll()

    def run(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        account: pwd.struct_passwd | None = None,
        within_s: float = START_S_MAX,
    ) -> int:
        """Run a child to its end and return its exit status."""
        self.start(name, argv, env=env, account=account)
        self.wait(lambda: name in self.ended, f"{name} to finish", within_s)
        return self.ended[name]

    # Watching

    def poll(self) -> None:
        """Learn which children have ended; `Failed` when the reaper has, as nothing would end them with us."""
        with self._lock:
            for name, process in list(self.children.items()):
                if process.poll() is not None:
                    del self.children[name]
                    self.ended[name] = process.returncode
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)  # what it started must not stay either
                    self._tell({"ended": process.pid})
        if self._reaper.poll() is not None:
            raise Failed("The reaper process was killed, so everything was stopped.")

    def wait(self, condition: Callable[[], bool], what: str, within_s: float, *, tick_s: float = 0.01) -> None:
        """Wait until the condition holds, learning of ends meanwhile; `Failed` when the time is over."""
        deadline = time.monotonic() + within_s
        self.poll()
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"Waited {within_s:g} s for {what}, in vain.")
            time.sleep(tick_s)
            self.poll()

    def wait_for(self, name: str, title: str, answers: Callable[[], bool], within_s: float = START_S_MAX) -> None:
        def answered() -> bool:
            if name in self.ended:
                raise Failed(f"{title} ended while starting (status {self.ended[name]}):\n{self.last_lines(name)}")
            return answers()

        self.wait(answered, f"{title} to answer", within_s)

    def died(self, name: str, what: str) -> Failed:
        """How a child ended, with the end of its log."""
        status, last = self.ended[name], self.last_lines(name)
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return Failed(f"{what} {how}, so everything was stopped." + (f" Its last lines:\n{last}" if last else ""))

    # The end

    def _tell(self, message: dict[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reaper was killed: the next poll finds out
            os.write(self.pipe, json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Close the pipe, and let the reaper do what it would do without us; if it was killed, do it here."""
        with self._lock:
            if self.pipe >= 0:
                os.close(self.pipe)
                self.pipe = -1
        while self._reaper.poll() is None:
            for process in self.children.values():
                process.poll()  # waited for, so that it is gone for the reaper too
            time.sleep(0.005)
        if self._reaper.returncode != 0:
            groups = {p.pid: self._stops[name] for name, p in self.children.items() if p.poll() is None}
            reaper.clean_up(groups, self._last, [str(self.folder), str(self.sockets)])
            for process in self.children.values():
                process.wait()
        self._starter.shutdown()
