"""Where servers live while they run: a folder of their own, its sockets, and the sweeping of what dead owners left."""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossover.errors import UserError

FREE_BYTES_MIN = 512 * 1024 * 1024
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 108 on Linux and 104 on macOS


@dataclass(frozen=True)
class Account:
    """The user that PostgreSQL runs as; `None` stands for the present one."""

    uid: int | None
    gid: int | None


def server_account() -> Account:
    """PostgreSQL refuses to run as root, so that root runs it as `nobody`."""
    if os.geteuid() != 0:
        return Account(None, None)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise UserError(
            "PostgreSQL does not run as root and there is no user 'nobody': run as another user or set DATABASE_URL."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def open_to_all(path: Path) -> bool:
    """Whether any user may walk down to `path`."""
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents) if step.exists())


def state_dir() -> Path:
    """The per-user state folder: XDG_STATE_HOME, or ~/.local/state; for root a place that `nobody` can reach."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "crossover"
    if os.geteuid() != 0:
        return home
    return next(
        p for p in (home, Path("/var/lib/crossover"), Path(tempfile.gettempdir()) / "crossover") if open_to_all(p)
    )


@dataclass(frozen=True)
class Place:
    """A folder that lives as long as its owners: `owned` is a locked file they hold open."""

    folder: Path
    sockets: Path
    owned: int

    def log(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '-')}.log"

    def last_lines(self, name: str, lines: int = 8) -> str:
        log = self.log(name)
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)


def make_place(state: Path) -> Place:
    """A fresh folder, after sweeping those of dead owners; says so when the disk is full or not writable."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        state.mkdir(mode=0o755, parents=True, exist_ok=True)
        runs = state / "run"
        runs.mkdir(mode=mode, exist_ok=True)
        free_bytes = shutil.disk_usage(state).free
        if free_bytes < FREE_BYTES_MIN:
            raise UserError(
                f"The disk that holds {state} has {free_bytes >> 20} MiB left, a target needs "
                f"{FREE_BYTES_MIN >> 20}: free some space or set XDG_STATE_HOME to another disk."
            )
        with locked(state / "lock"):
            sweep(runs)
            name = secrets.token_hex(4)
            sockets = sockets_dir(name)
            folder = runs / name
            folder.mkdir(mode=mode)
            (folder / "sockets").symlink_to(sockets)  # before they exist, so that a sweep always finds them
            sockets.mkdir(mode=mode)
            owned = os.open(folder / "owned", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Place(folder, sockets, owned)
    except OSError as error:
        raise UserError(
            f"Cannot write to {state} ({error.strerror}): set XDG_STATE_HOME to a folder that can."
        ) from None


def sockets_dir(name: str) -> Path:
    temp = Path(tempfile.gettempdir())
    longest = temp / f"crossover-{name}" / "postgres" / ".s.PGSQL.5432"
    if len(os.fsencode(longest)) > SOCKET_PATH_BYTES_MAX:
        temp = Path("/tmp")
    return temp / f"crossover-{name}"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(runs: Path) -> None:
    """Remove the folders whose owners are dead: the kernel released their locks. The caller holds the state's lock."""
    for folder in runs.iterdir():
        with contextlib.suppress(BlockingIOError), (folder / "owned").open("a") as owned:
            fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sockets = folder / "sockets"
            if sockets.is_symlink():
                shutil.rmtree(sockets.readlink(), ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
