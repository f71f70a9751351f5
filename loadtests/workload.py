"""Workloads: which operations, how often and on which keys. Each is a TOML file, checked before anything starts."""

import math
import tomllib
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

WORKLOADS = Path(__file__).parent / "workloads"

READS = ("order", "customer_orders", "product", "customer", "history", "top_products", "daily_sales", "search")
WRITES = ("place", "pay", "ship", "cancel", "rename", "reprice", "deliver")

MAX_LINES, MAX_PIECES = 50, 1_000  # the contract's limits of an order


class WorkloadError(ValueError):
    """One clear sentence about what is wrong with a workload and what to do."""


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """How the thing an operation is about is chosen; a higher exponent makes popular ones more popular."""

    distribution: Literal["uniform", "zipf", "latest"]
    exponent: float = 1.0


class Keys(Struct, frozen=True, forbid_unknown_fields=True):
    order: Key = Key("latest", 0.8)
    customer: Key = Key("zipf", 0.5)
    product: Key = Key("zipf", 0.9)


class Basket(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of 1, 2, 3 … lines of an order, and of 1, 2, 3 … pieces a line."""

    lines: tuple[float, ...] = (30, 27, 20, 12, 7, 4)
    pieces: tuple[float, ...] = (60, 25, 10, 3, 2)


class Workload(Struct, frozen=True, forbid_unknown_fields=True):
    """`reads` and `writes` are shares in percent by operation; each of the two adds up to 100."""

    read_share_pct: float
    rate_per_s: float
    reads: dict[str, float]
    writes: dict[str, float]
    keys: Keys = Keys()
    basket: Basket = Basket()
    name: str = ""
    about: str = ""

    @property
    def operations(self) -> frozenset[str]:
        """Those that it may ask for."""
        return frozenset(name for name, share in (self.reads | self.writes).items() if share)


def names() -> list[str]:
    """The workloads that come with the project."""
    return sorted(path.stem for path in WORKLOADS.glob("*.toml"))


def load(name_or_path: str) -> Workload:
    """A workload that comes with the project, by name, or one of the user's own, by path."""
    own = name_or_path.endswith(".toml") or "/" in name_or_path
    path = Path(name_or_path) if own else WORKLOADS / f"{name_or_path}.toml"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if own:
            raise WorkloadError(f"There is no workload file {name_or_path}.") from None
        raise WorkloadError(
            f"There is no workload {name_or_path!r}: choose one of {', '.join(names())}, or give the path of a .toml."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"The workload file {name_or_path} cannot be read: {error}.") from error
    return parse(text, name=path.stem, source=str(name_or_path))


def parse(text: str, *, name: str, source: str) -> Workload:
    try:
        workload = msgspec.convert(tomllib.loads(text), Workload)
    except (msgspec.ValidationError, OverflowError) as error:
        raise WorkloadError(f"Workload {source} does not fit: {error}.") from error
    except (ValueError, RecursionError) as error:  # tomllib's own is a ValueError, as is a number of too many digits
        raise WorkloadError(f"Workload {source} is no valid TOML: {error}.") from error
    if problem := _problem(workload):
        raise WorkloadError(f"Workload {source}: {problem}.")
    return workload if workload.name else msgspec.structs.replace(workload, name=name)


def check_read_share(read_share_pct: float) -> float:
    if not (math.isfinite(read_share_pct) and 0 <= read_share_pct <= 100):
        raise WorkloadError(f"A read share is a number from 0 to 100 percent, not {read_share_pct:g}.")
    return read_share_pct


def _problem(workload: Workload) -> str | None:
    """What is wrong, as the end of a sentence; None when all is well."""
    if not workload.name.isprintable():
        return "its name must be printable"
    if not (math.isfinite(workload.rate_per_s) and 0 < workload.rate_per_s <= 100_000):
        return f"rate_per_s must be above 0 and at most 100,000, not {workload.rate_per_s:g}"
    if not (math.isfinite(workload.read_share_pct) and 0 <= workload.read_share_pct <= 100):
        return f"read_share_pct must be 0 to 100, not {workload.read_share_pct:g}"
    for part, shares, known in (("reads", workload.reads, READS), ("writes", workload.writes, WRITES)):
        if unknown := [name for name in shares if name not in known]:
            return f"there is no operation {unknown[0]!r} among the {part}, only {', '.join(known)}"
        if any(not (math.isfinite(share) and share >= 0) for share in shares.values()):
            return f"the shares of the {part} must not be negative"
        if abs(sum(shares.values()) - 100) > 0.01:
            return f"the shares of the {part} add up to {sum(shares.values()):g}, they must add up to 100"
    if not workload.writes.get("place") and any(workload.writes.get(name) for name in ("pay", "ship", "cancel")):
        return "orders are paid, shipped or cancelled but none is placed: give place a share of the writes"
    if workload.writes.get("ship") and not workload.writes.get("pay"):
        return "orders are shipped but none is paid: give pay a share of the writes"
    basket, keys = workload.basket, workload.keys
    for part, weights, limit in (("lines", basket.lines, MAX_LINES), ("pieces", basket.pieces, MAX_PIECES)):
        sound = 1 <= len(weights) <= limit and all(math.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0
        if not sound:
            return f"basket.{part} must be 1 to {limit} weights, none negative, not all zero"
    for part, key in (("order", keys.order), ("customer", keys.customer), ("product", keys.product)):
        if not 0 <= key.exponent <= 3:
            return f"the exponent of keys.{part} must be 0 to 3, not {key.exponent:g}"
    return None
