"""Pinned artifacts of servers in the user's cache: a part is there whole and as it was pinned, or it is not there.

`locks/<part>.txt` lists its files, one a line: sha256, bytes, and either `group:artifact:version` of Maven or
`name==version` of a Python wheel, of which each platform has its own. Maven's files are fetched by jgo, wheels by pip.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from servers.folders import cache_dir, make_folder
from servers.server import Failed, Unusable
from servers.supervisor import Processes

LOCKS = Path(__file__).parent / "locks"
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
MIRROR = "CROSSOVER_MAVEN_URL"
CONNECT_S_MAX, FETCH_S_MAX, CONNECTIONS = 30, 1_800.0, 4
SPARE_BYTES = 256 * 1024 * 1024  # a wheel is there packed and unpacked for a moment
Progress = Callable[[str, int, int], None]  # phase, done, total


class Pinned(NamedTuple):
    address: str
    sha256: str
    size: int

    @property
    def wheel(self) -> bool:
        return "==" in self.address


class Part(NamedTuple):
    """`name` is the folder in the cache and, with the version, that of its lock."""

    name: str
    title: str
    version: str

    @property
    def folder(self) -> Path:
        return cache_dir() / f"{self.name}-{self.version}"

    def pinned(self) -> list[Pinned]:
        lines = (LOCKS / f"{self.folder.name}.txt").read_text().splitlines()
        split = (line.split() for line in lines if not line.startswith("#"))
        return [Pinned(address, sha256, int(size)) for sha256, size, address in split]

    def bytes(self) -> int:
        """To fetch: of a wheel one platform's, the largest."""
        sizes: dict[str, int] = {}
        for one in self.pinned():
            sizes[one.address] = max(sizes.get(one.address, 0), one.size)
        return sum(sizes.values())


def missing(parts: tuple[Part, ...]) -> list[Part]:
    return [part for part in parts if not part.folder.is_dir()]


def fetch(part: Part, progress: Progress) -> None:
    """Fetch a part unless it is there."""
    make_cache()
    fresh = part.folder.with_name(part.folder.name + ".new")
    with _alone(), Processes() as run:
        if not missing((part,)):
            return
        shutil.rmtree(fresh, ignore_errors=True)
        run.at_end(["rm", "-rf", fresh], env={"PATH": "/usr/bin:/bin"})  # however this ends
        _require_room(part)
        try:
            fresh.mkdir()
            _fetch(part, fresh, run, progress)
            for path in (fresh, *fresh.rglob("*")):  # for the users of servers too, whatever the umask is
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
            fresh.rename(part.folder)
        except OSError as error:
            raise Unusable(
                f"{part.title} cannot be written to {fresh.parent} ({error.strerror or error}): free some space, or set"
                " XDG_CACHE_HOME to another disk."
            ) from None


def make_cache() -> Path:
    folder = cache_dir()
    try:
        make_folder(folder)
    except OSError as error:
        raise Unusable(
            f"Cannot write to {folder} ({error.strerror}): set XDG_CACHE_HOME to a folder that can."
        ) from None
    return folder


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two commands do not fetch the same at once: the second waits, and finds it."""
    with (cache_dir() / "fetch.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_room(part: Part) -> None:
    free, needed = shutil.disk_usage(cache_dir()).free, part.bytes() + SPARE_BYTES
    if free < needed:
        raise Unusable(
            f"The disk that holds {cache_dir()} has {free >> 20} MiB free, and {part.title} needs {needed >> 20} while"
            " it is fetched: free some space, or set XDG_CACHE_HOME to another disk."
        )


def _fetch(part: Part, fresh: Path, run: Processes, progress: Progress) -> None:
    pinned, total, done, one_at_a_time = part.pinned(), part.bytes(), 0, Lock()

    def tell(more: int) -> None:
        nonlocal done
        with one_at_a_time:
            done += more
            progress(f"fetching {part.title}", min(done, total), total)

    tell(0)
    jars = [one for one in pinned if not one.wheel]
    if jars:
        _fetch_jars(jars, fresh, tell)
    for address in dict.fromkeys(one.address for one in pinned if one.wheel):
        _fetch_wheel([one for one in pinned if one.address == address], fresh, run, tell)


def _fetch_jars(pinned: list[Pinned], fresh: Path, tell: Callable[[int], None]) -> None:
    # Imported here: it takes most of a second, and a fetch is rare.
    import requests
    from jgo.maven import MavenContext, PythonResolver

    @contextlib.contextmanager
    def bar(_name: str, _total: int) -> Iterator[Callable[[int], None]]:
        yield tell

    url, repository = os.environ.get(MIRROR, MAVEN_CENTRAL).rstrip("/"), fresh / "maven"
    context = MavenContext(
        PythonResolver(progress_callback=bar), repository, [], {"central": url}, timeout=CONNECT_S_MAX
    )

    def fetch_one(one: Pinned) -> None:
        group, artifact, version = one.address.split(":")
        try:
            fetched = context.project(group, artifact).at_version(version).artifact().resolve()
        except requests.RequestException as error:
            said = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
            raise Unusable(
                f"{one.address} could not be fetched from {url} ({said}): connect this machine to it, or set {MIRROR}"
                " to a mirror of Maven Central."
            ) from None
        except RuntimeError:  # how jgo says that the answer was not 200
            raise Unusable(f"{url} does not have {one.address}: set {MIRROR} to a mirror of Maven Central.") from None
        _require_sum(one, fetched)
        fetched.rename(fresh / fetched.name)

    with ThreadPoolExecutor(CONNECTIONS) as several:  # as most of the time is spent in asking, twice for each
        try:
            list(several.map(fetch_one, pinned))
        finally:
            several.shutdown(cancel_futures=True)
    shutil.rmtree(repository)


def _require_sum(one: Pinned, fetched: Path) -> None:
    with fetched.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != one.sha256:
            raise Unusable(f"{one.address} {UNLIKE}")


UNLIKE = (
    "is not the file that was pinned (its sha256 is another), so that nothing was kept: try again, and if it stays so,"
    " do not trust where it comes from."
)
# What pip prints, and what is said then.
PIP_SAYS = {
    "DO NOT MATCH THE HASHES": UNLIKE,
    "No space left on device": "found no room on the disk of {cache}: free some space, or set XDG_CACHE_HOME to"
    " another.",
    "No matching distribution": "could not be fetched by pip (no connection to its index, or no wheel for this"
    " machine): see `pip download {address}`.",
}


def _fetch_wheel(pinned: list[Pinned], fresh: Path, run: Processes, tell: Callable[[int], None]) -> None:
    address, hashes = pinned[0].address, [f"--hash=sha256:{one.sha256}" for one in pinned]
    wanted, packed = fresh / "requirements.txt", fresh / "packed"
    wanted.write_text(" ".join([address, *hashes]) + "\n")
    packed.mkdir()  # where pip unpacks on its way, so that one disk has all, and its growth can be seen
    pip = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    pip += ["--no-compile", "--no-input", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    run.start("pip", [*pip, "--target", fresh, "-r", wanted], env={**os.environ, "TMPDIR": str(packed)})
    seen = 0

    def ended() -> bool:
        nonlocal seen
        grown = _bytes_in(packed)
        tell(max(0, grown - seen))
        seen = max(seen, grown)
        return "pip" in run.ended

    run.wait(ended, f"pip to fetch {address}", FETCH_S_MAX, tick_s=0.1)
    if run.ended["pip"] != 0:
        printed = run.log("pip").read_text(errors="replace")
        for words, said in PIP_SAYS.items():
            if words in printed:
                raise Unusable(f"{address} {said.format(address=address, cache=fresh.parent)}")
        raise Failed(f"pip could not fetch {address}:\n{run.last_lines('pip')}")
    wanted.unlink()
    shutil.rmtree(packed)


def _bytes_in(folder: Path) -> int:
    """Some of its files are removed meanwhile."""
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += os.stat(os.path.join(parent, name)).st_size
    return found
