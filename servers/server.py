"""What a server is: a value that starts a private one, checks any, and drops what we made there."""

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable
from urllib.parse import unquote

if TYPE_CHECKING:
    from servers.artifacts import Part
    from servers.supervisor import Processes

OURS = "crossover_"  # how every namespace of ours begins; nothing else is ever dropped
PASSWORDS = (r"//[^:/@]*:([^@]*)@", r"//[^:/@]*:(.*)@", r"password\s*=\s*('[^']*'|[^&\s]+)")
SERVER_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}  # all that a private server inherits


class Unusable(Exception):
    """Something the user can put right; its text is the one sentence the user reads."""


class Failed(Exception):
    """A process ended, or did not answer in time; its text is one sentence, and the end of its log."""


class Facts(NamedTuple):
    """What a server reports of itself: its version, and the settings that bear on what is measured."""

    version: str
    settings: Mapping[str, str]
    durability: Mapping[str, str] = {}  # those of the settings that decide what a crash may cost


class Origin(NamedTuple):
    """What would be started: its version, and where it comes from."""

    version: str
    source: str


@runtime_checkable
class Server(Protocol):
    """`name` is also that of its process, of its component in the CPU accounts, and of `--url NAME=URL`."""

    name: str
    title: str
    variable: str  # the environment variable that holds the address
    one_core: bool  # whether it works on one core at a time, however many there are
    durabilities: Mapping[str, Mapping[str, str]]  # how a private one may be started: "full", then what loses more

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Whatever its driver raises."""

    def private(self) -> Origin:
        """The private server that would be started; `Unusable` says what is missing, and the line that brings it."""

    def start(self, run: "Processes", *, durability: str = "full") -> str:
        """Start a private one and return its URL once it answers."""

    def check(self, url: str, connections: int = 0) -> Facts:
        """Ask a server for its facts; `Unusable` if it cannot be reached, must not be used, or has not so many
        connections left."""

    def drop(self, url: str, namespace: str) -> None:
        """Remove what we made in a namespace, and nothing else."""


# What only some servers can do; asked for by isinstance.


@runtime_checkable
class Holding(Protocol):
    """Can tell whether we made anything in a namespace."""

    def holds(self, url: str, namespace: str) -> bool: ...


@runtime_checkable
class Listing(Protocol):
    """Can list the namespaces in which something was made."""

    def namespaces(self, url: str, beginning: str) -> Iterable[str]: ...


@runtime_checkable
class Installable(Protocol):
    """Does not come with our own packages: these pinned parts are fetched into the user's cache."""

    parts: tuple["Part", ...]

    def prepare(self, run: "Processes") -> None:
        """What is done once, when they are there, to make each start quicker. Repeatable."""


@runtime_checkable
class Linkable(Protocol):
    """A private one listens on a Unix socket in a folder, so that a link can stand between it and a client."""

    def socket(self, folder: Path) -> Path: ...
    def url_in(self, folder: Path) -> str: ...


@runtime_checkable
class Redirecting(Protocol):
    """Tells its clients itself where to go on, which would lead them past a link that it does not know of."""

    def redirect(self, run: "Processes", links: Mapping[str, int]) -> Mapping[str, int]:
        """Send who comes by one of these links, each by its port, there again; the port that each has to lead to."""


@runtime_checkable
class Killable(Protocol):
    """Can be killed, and started again over the data that is left."""

    def restart(self, run: "Processes", *, durability: str = "full") -> str: ...


@runtime_checkable
class Pausable(Protocol):
    """Stands still when all these processes do."""

    def process_ids(self, run: "Processes") -> list[int]: ...


@runtime_checkable
class Flushable(Protocol):
    """Can lose everything at once, and is then filled again by whoever uses it."""

    def flush(self, run: "Processes") -> None: ...


@runtime_checkable
class Evicting(Protocol):
    """Bounds its memory by giving up what it holds: without it everything is answered, only more slowly."""

    def evict(self, url: str) -> None: ...


@runtime_checkable
class DiskFillable(Protocol):
    """Keeps its data in a folder, where a small disk can be mounted before it starts and filled later. After
    `disk_check_s` at most it notices that there is room again."""

    disk_check_s: float

    def data_folder(self, run: "Processes") -> Path: ...
    def need_space(self, url: str) -> None:
        """Make it write more than it has room for, which may well be its end."""


@runtime_checkable
class Refusing(Protocol):
    """Can refuse writes in each of these ways, and take them again afterwards with nothing lost."""

    refusals: Collection[str]

    def refusing_writes(self, run: "Processes", how: str) -> AbstractContextManager[None]: ...


@runtime_checkable
class Copyable(Protocol):
    """Holds all of its data in files: while it is stopped, they can be copied, and a copy can take their place."""

    def copy_data(self, run: "Processes") -> Path: ...
    def put_data(self, run: "Processes", copy: Path) -> None: ...


@runtime_checkable
class FailingOver(Protocol):
    """Can be replaced, when the context ends, by another that holds what it held when the context began."""

    def failing_over(self, run: "Processes") -> AbstractContextManager[None]: ...


@runtime_checkable
class Replicating(Protocol):
    """Repeats what another server writes, which it receives from a socket: a link can stand there."""

    source: str  # the name of that server

    def receive_by(self, run: "Processes", folder: Path) -> None:
        """From now on receive by way of the socket in this folder."""

    def copy_again(self, run: "Processes") -> None:
        """Begin again as a copy of that server, when this one is stopped."""

    def falling_behind(self, run: "Processes") -> AbstractContextManager[None]:
        """Repeat nothing until the context ends, whatever is received."""


@runtime_checkable
class Inspectable(Protocol):
    """Can be searched for everything that mentions a text, for a reader who wants to see where an id lives."""

    def mentions(self, url: str, namespace: str, text: str) -> Iterable[tuple[str, str]]:
        """(place, content) of each."""


@runtime_checkable
class Forking(Protocol):
    """Serves each client by a process of its own."""

    def a_backend(self, url: str) -> int | None:
        """The pid of one of them, a busy one if there is any."""


def secrets_of(url: str) -> set[str]:
    """The passwords in an address, as it spells them and as they are. One that is also the user's name is none."""
    spelled = [word for pattern in PASSWORDS for word in re.findall(pattern, url)]
    spelled += [word.strip("'") for word in spelled]
    user = re.findall(r"//([^:/@]*):", url)
    return {secret for word in spelled for secret in (word, unquote(word)) if secret} - {*user, *map(unquote, user)}


def without_secrets(words: str, url: str) -> str:
    """What a library or a server says, in one line; some repeat the address."""
    for secret in sorted(secrets_of(url), key=len, reverse=True):
        words = words.replace(secret, "***")
    return " ".join(words.split())


def namespace_of(name: str) -> str:
    """The namespace of a target served under this name: the same each time, so that its data is found again."""
    return OURS + re.sub(r"[^a-z0-9]+", "_", name.lower())[:40]


def fresh_namespace(name: str) -> str:
    """A namespace nobody has used yet."""
    return f"{namespace_of(name)}_{secrets.token_hex(4)}"
