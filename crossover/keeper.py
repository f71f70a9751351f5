"""The keeper starts the children it is told; when its parent is gone it stops them all and removes their folder.

It is run by path with nothing but the standard library: it starts in milliseconds and cannot fail on an import.
The parent holds the other end of a socket; the kernel closes that end however the parent ends, SIGKILL included, and
the end of file is the order to clean up. Each child is bound to the keeper's life in turn by PR_SET_PDEATHSIG (Linux).

One JSON object a line. In: {"start": {...}} (a listening socket may ride along) or {"stop": name}.
A third, {"finally": {...}}, is run as the last thing of all, for what was left outside the folder.
Out: {"reply": name, "pid" or "error"} to each request, and {"exited": name, "status"} whenever a child ends.
"""

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
LAST_ORDER_S_MAX = 30.0
# Loaded here: between fork and exec nothing may be imported or allocated that another library could have locked.
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def dies_with(keeper_pid: int, death: int) -> Callable[[], None]:
    """What a child does just before exec, after it became another user: a change of user would clear the setting."""

    def bind() -> None:
        if PRCTL is not None:
            PRCTL(PR_SET_PDEATHSIG, death)
            if os.getppid() != keeper_pid:  # the keeper died before the setting held
                os._exit(1)

    return bind


class Child:
    """A running process, and the signals that end it, each with the seconds it is given."""

    def __init__(self, order: dict, passed: list[int]) -> None:  # type: ignore[type-arg]
        self.name: str = order["name"]
        self.stops: list[tuple[int, float]] = [(int(sig), patience_s) for sig, patience_s in order["stops"]]
        self.told = False  # whether its end was reported
        argv = [str(passed[0]) if passed and word == "{fd}" else word for word in order["argv"]]
        other_user = (
            {"user": order["uid"], "group": order["gid"], "extra_groups": []} if order["uid"] is not None else {}
        )
        with Path(order["log"]).open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env=order["env"],
                cwd=order["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                start_new_session=True,
                preexec_fn=dies_with(os.getpid(), order["death"]),
                **other_user,
            )

    def stop(self) -> None:
        for sig, patience_s in self.stops:
            if self.process.poll() is None:
                self.process.send_signal(sig)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience_s)
        # Last of all its whole group: what it started must not stay either.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Keeper:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: dict[str, Child] = {}
        self.last_orders: list[dict] = []  # type: ignore[type-arg]
        self.unread = b""
        self.passed: list[int] = []

    def say(self, **message: object) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: its end of file is read next
            self.control.sendall(json.dumps(message).encode() + b"\n")

    def obey(self, line: bytes) -> None:
        order = json.loads(line)
        if "stop" in order:
            self.children[order["stop"]].stop()
            self.report_ends()
            self.say(reply=order["stop"])
            return
        if "finally" in order:
            self.last_orders.append(order["finally"])
            self.say(reply=order["finally"]["name"])
            return
        start, passed, self.passed = order["start"], self.passed, []
        try:
            child = Child(start, passed)
        except (OSError, subprocess.SubprocessError) as error:
            self.say(reply=start["name"], error=str(error))
        else:
            self.children[child.name] = child
            self.say(reply=child.name, pid=child.process.pid)
        finally:
            for fd in passed:
                os.close(fd)

    def listen(self) -> bool:
        """Read what the parent asks; False when the parent is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self.control, 65536, 1)
        except ConnectionError:
            return False
        self.passed += fds
        self.unread += data
        while b"\n" in self.unread:
            line, self.unread = self.unread.split(b"\n", 1)
            self.obey(line)
        return bool(data)

    def report_ends(self) -> None:
        for child in self.children.values():
            if not child.told and child.process.poll() is not None:
                child.told = True
                self.say(exited=child.name, status=child.process.returncode)

    def stop_all(self) -> None:
        for child in reversed(list(self.children.values())):
            child.stop()
        for order in self.last_orders:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                Child(order, []).process.wait(LAST_ORDER_S_MAX)


def main(control_fd: int, folders: list[str]) -> None:
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    ordered_to_stop: list[int] = []
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, lambda number, _: ordered_to_stop.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=control_fd) as control, selectors.DefaultSelector() as selector:
        keeper = Keeper(control)
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        parent_lives = True
        try:
            while parent_lives and not ordered_to_stop:
                for key, _ in selector.select():
                    if key.fileobj is control:
                        parent_lives = keeper.listen()
                    else:
                        woken.recv(4096)
                keeper.report_ends()
        finally:
            keeper.stop_all()
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
