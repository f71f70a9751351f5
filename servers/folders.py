"""Where servers live while they run: a run directory in the user's state folder, and a short one for sockets."""

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


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    return next(step for step in (folder, *folder.parents) if step.exists())


def require_room(state: Path) -> int:
    """The bytes free for private servers; `Unusable` when they are too few or nothing can be written."""
    there = existing(state)
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


def _sockets_dir(name: str) -> Path:
    temp = Path(tempfile.gettempdir())
    if len(os.fsencode(temp / f"crossover-{name}" / LONGEST_SOCKET)) > SOCKET_PATH_BYTES_MAX:
        temp = Path("/tmp")
    return temp / f"crossover-{name}"
