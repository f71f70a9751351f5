"""The parent's side of the keeper: start children, learn of their ends, and stop them all on leaving."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from crossover import keeper
from crossover.errors import Fallen
from crossover.places import Account, Place, make_place, state_dir

MYSELF = Account(None, None)
POLITE = ((signal.SIGTERM, 5.0),)
CLOSE_S_MAX = 60.0


class Household:
    """All children of one command, in one folder, held by one keeper. Not for several threads."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pids: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self._unread = b""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    keeper.__file__,
                    str(theirs.fileno()),
                    str(place.folder),
                    str(place.sockets),
                ],
                pass_fds=[theirs.fileno(), place.owned],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: dict[str, str],
        account: Account = MYSELF,
        stops: Sequence[tuple[int, float]] = POLITE,
        death: int = signal.SIGKILL,
        listening: socket.socket | None = None,
    ) -> int:
        """Start a child and return its pid; the word "{fd}" in `argv` becomes the number of the `listening` socket."""
        order = self._order(name, argv, env, account, stops, death)
        self.ended.pop(name, None)
        answer = self._ask({"start": order}, [listening.fileno()] if listening else [])
        if "error" in answer:
            raise Fallen(f"Cannot start {name}: {answer['error']}.")
        self.pids[name] = int(str(answer["pid"]))
        return self.pids[name]

    def finally_run(self, argv: Sequence[str | Path], *, env: dict[str, str]) -> None:
        """Have this run when everything else has ended, however it ends (but for SIGKILL of the keeper itself)."""
        self._ask({"finally": self._order("finally", argv, env, MYSELF, POLITE, signal.SIGKILL)}, [])

    def _order(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: dict[str, str],
        account: Account,
        stops: Sequence[tuple[int, float]],
        death: int,
    ) -> dict[str, object]:
        return {
            "name": name,
            "argv": [str(word) for word in argv],
            "env": env,
            "cwd": str(self.place.folder),
            "uid": account.uid,
            "gid": account.gid,
            "log": str(self.place.log(name)),
            "stops": [(int(sig), patience_s) for sig, patience_s in stops],
            "death": int(death),
        }

    def stop(self, name: str) -> None:
        """Stop one child and wait until it is gone."""
        self._ask({"stop": name}, [])

    def run(
        self, name: str, argv: Sequence[str | Path], *, env: dict[str, str], account: Account = MYSELF, within_s: float
    ) -> int:
        """Run a child to its end and return its exit status."""
        self.start(name, argv, env=env, account=account)
        self.wait(lambda: name in self.ended, f"{name} to finish", within_s, tick_s=within_s)
        return self.ended[name]

    def wait(self, condition: Callable[[], bool], what: str, within_s: float, *, tick_s: float = 0.02) -> None:
        """Wait until the condition holds, hearing of ends meanwhile; `Fallen` when the time is over."""
        deadline = time.monotonic() + within_s
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Fallen(f"Waited {within_s:g} s for {what}, in vain.")
            self.hear(min(left_s, tick_s))

    def hear(self, timeout_s: float) -> None:
        """Take in news from the keeper, waiting at most so long for the first; `Fallen` when the keeper is gone."""
        if select.select([self._control], [], [], timeout_s)[0]:
            for message in self._read():
                self._note(message)

    def _note(self, message: dict[str, object]) -> None:
        if "exited" in message:
            self.ended[str(message["exited"])] = int(str(message["status"]))

    def _ask(self, order: dict[str, object], fds: list[int]) -> dict[str, object]:
        try:
            line = json.dumps(order).encode() + b"\n"
            sent = socket.send_fds(self._control, [line], fds)
            self._control.sendall(line[sent:])
        except ConnectionError:
            raise self._keeper_gone() from None
        answer: dict[str, object] = {}
        while not answer:
            for message in self._read():
                if "reply" in message:
                    answer = message
                self._note(message)
        return answer

    def _read(self) -> list[dict[str, object]]:
        try:
            data = self._control.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise self._keeper_gone()
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    @staticmethod
    def _keeper_gone() -> Fallen:
        return Fallen("The keeper process was killed; its servers were stopped with it.")

    def close(self) -> None:
        """Stop everything and wait for it; a keeper that was killed is replaced in its last duty."""
        self._control.close()
        try:
            self._keeper.wait(CLOSE_S_MAX)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        deadline = time.monotonic() + 10.0
        left = [pid for name, pid in self.pids.items() if name not in self.ended]
        while left := [pid for pid in left if alive(pid)]:
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.place.remove()
        os.close(self.place.owned)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def household(state: Path | None = None) -> Iterator[Household]:
    """A folder and a keeper of its own; on leaving, nothing of either is left."""
    held = Household(make_place(state or state_dir()))
    try:
        yield held
    finally:
        held.close()
