"""What a server is: a value that starts a private one, checks any, and drops what we made there."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

OURS = "crossover_"  # how every namespace of ours begins; nothing else is ever dropped
SERVER_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C", "TZ": "UTC"}


class Unusable(Exception):
    """Something the user can put right; its text is the one sentence the user reads."""


class Failed(Exception):
    """A process ended, or did not answer in time; its text is one sentence, and the end of its log."""


class Facts(NamedTuple):
    """What a server says of itself: its version, and the settings that bear on what is measured."""

    version: str
    settings: Mapping[str, str]
    durability: Mapping[str, str]  # those of the settings that decide what a crash may cost


@dataclass(frozen=True)
class Account:
    """The user that a process runs as; `None` stands for the present one."""

    uid: int | None = None
    gid: int | None = None


class Launcher(Protocol):
    """What a server needs of whoever starts it: folders for this run, and processes that end with it."""

    folder: Path
    sockets: Path
    pids: dict[str, int]

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        account: Account = ...,
        stop: tuple[int, float] = ...,
    ) -> int: ...
    def run(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        account: Account = ...,
        within_s: float = ...,
    ) -> int: ...
    def wait_for(self, name: str, title: str, answers: Callable[[], bool], within_s: float = ...) -> None:
        """Wait until a child that was started answers; `Failed`, with the end of its log, when it ended instead."""
        ...

    def last_lines(self, name: str, lines: int = ...) -> str: ...


@runtime_checkable
class Server(Protocol):
    """`name` is also that of its process, of its component in the CPU accounts, and of `--url NAME=URL`."""

    name: str
    title: str
    variable: str  # the environment variable that holds the address
    durabilities: Mapping[str, Mapping[str, str]]  # what a private one may be started with, by name; "full" is first

    def private(self) -> str:
        """Which private server would be started here; `Unusable` says what is missing for it."""
        ...

    def start(self, run: Launcher, *, durability: str = "full") -> str:
        """Start a private one and return its URL once it answers."""
        ...

    def check(self, url: str) -> Facts:
        """Ask a server for its facts; `Unusable` if it cannot be reached or must not be used."""
        ...

    def drop(self, url: str, namespace: str) -> None:
        """Remove what we made in a namespace, and nothing else."""
        ...


@runtime_checkable
class Killable(Protocol):
    """Can be killed, and started again over the data that is left."""

    def restart(self, run: Launcher, *, durability: str = "full") -> str: ...


@runtime_checkable
class Pausable(Protocol):
    """Can be stopped (SIGSTOP) as a whole."""

    def process_ids(self, run: Launcher) -> list[int]: ...


@runtime_checkable
class Flushable(Protocol):
    """Can lose everything at once, and is expected to be filled again."""

    def flush(self, url: str) -> None: ...


@runtime_checkable
class DiskFillable(Protocol):
    """Keeps its data in a folder where a small disk can be mounted before it starts, and filled later."""

    def data_folder(self, run: Launcher) -> Path: ...
    def need_space(self, url: str) -> None:
        """Make it write more than it has room for, which may well be its end."""
        ...


@runtime_checkable
class Backends(Protocol):
    """Serves each client by a process of its own, one of which can be killed."""

    def a_backend(self, url: str) -> int | None: ...


@runtime_checkable
class Linkable(Protocol):
    """A private one listens on a Unix socket, so that a link can stand between it and a client."""

    def socket(self, folder: Path) -> Path:
        """The socket in a folder of sockets."""
        ...

    def url_in(self, folder: Path) -> str: ...


@runtime_checkable
class Installable(Protocol):
    """Does not come with our own packages; says how to get it."""

    install: str


def variants(servers: Sequence[Server]) -> list[str]:
    """The durabilities that the user may choose for private servers: what any of them offers, but not for tests."""
    return list(dict.fromkeys(name for server in servers for name in server.durabilities if name != "none"))


def namespace_of(name: str) -> str:
    """The namespace of a target served under this name: the same each time, so that its data is found again."""
    return OURS + re.sub(r"[^a-z0-9]+", "_", name.lower())[:40]


def fresh_namespace(name: str) -> str:
    """A namespace nobody has used yet."""
    return f"{namespace_of(name)}_{secrets.token_hex(4)}"
