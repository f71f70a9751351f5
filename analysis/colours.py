"""One colour per rung and per component, derived from its name: the same in every figure of every run.

A checksum of the name picks from a fixed palette (Okabe & Ito and Tol: safe for colour-blind readers; a brown in place
of their yellow, which is lost on white). The salts are chosen so that the rungs and servers of this project differ and
keep the colours of figures already published.
"""

from collections.abc import Iterable, Mapping
from zlib import crc32

RUNG_SALT = 14
RUNGS = (
    *("#cc79a7", "#009e73", "#9467bd", "#882255", "#8c8c8c", "#999933", "#0072b2"),
    *("#d55e00", "#e69f00", "#17a2b8", "#b5651d", "#44aa99", "#56b4e9", "#7b4b2a"),
)
COMPONENT_SALT = 21
COMPONENTS = (
    *("#9c755f", "#edc948", "#bab0ac", "#59a14f", "#f28e2b", "#e15759"),
    *("#76b7b2", "#b07aa1", "#4e79a7", "#ff9da7", "#86bcb6", "#d37295"),
)


def of_targets(rungs: Mapping[str, str]) -> dict[str, str]:
    """By target, given the rung of each: the first of a rung has the rung's colour, a second one the next free."""
    return _picked(rungs, RUNGS, RUNG_SALT)


def of_rung(name: str) -> str:
    return of_targets({name: name})[name]


def of_components(names: Iterable[str]) -> dict[str, str]:
    return _picked({name: name for name in names}, COMPONENTS, COMPONENT_SALT)


def _picked(kinds: Mapping[str, str], palette: tuple[str, ...], salt: int) -> dict[str, str]:
    found: dict[str, str] = {}
    seconds = [name for place, name in enumerate(kinds) if kinds[name] in [*kinds.values()][:place]]
    for name, kind in sorted(kinds.items(), key=lambda item: item[0] in seconds):  # who is first of a kind comes first
        start = crc32(kind.encode(), salt)
        turn = [palette[(start + step) % len(palette)] for step in range(len(palette))]
        found[name] = next((colour for colour in turn if colour not in found.values()), turn[0])
    return found
