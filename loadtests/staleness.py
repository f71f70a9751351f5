"""How old is what a reader sees: reads at growing delays after an acknowledged command, without a token, under load."""

from collections.abc import Sequence
from typing import NamedTuple

import gevent
import msgspec

from loadtests.openloop import OpenLoopUser, Played, Sample, wait_until
from loadtests.operations import Operation, Probe
from loadtests.visibility import DELAYS_US, Look, Row, rows_of


class Seen(NamedTuple):
    played: Played  # the background load
    commands: list[Sample]  # of the probes
    rows: list[Row]


def observe(
    user: OpenLoopUser,
    operations: Sequence[Operation],
    probes: Sequence[Probe],
    slice_s: float,
    delays_us: Sequence[int] = DELAYS_US,
) -> Seen:
    """Plays the background load with the probes spread evenly over it, so that their last reads are under load too."""
    seen: list[tuple[Sample, list[Look], int] | None] = [None] * len(probes)

    def probe_at(index: int, delay_s: float) -> None:
        gevent.sleep(delay_s)
        seen[index] = _probe(user, probes[index], delays_us)

    gap_s = max(slice_s - delays_us[-1] / 1e6, slice_s / 2) / max(1, len(probes))
    greenlets = [gevent.spawn(probe_at, index, (index + 0.5) * gap_s) for index in range(len(probes))]
    played = user.play(operations, slice_s)
    gevent.joinall(greenlets, raise_error=True)
    finished = [(index, *found) for index, found in enumerate(seen) if found is not None]
    rows = [
        row
        for index, command, looks, version in finished
        if command.outcome == "ok"
        for row in rows_of(command.operation.name, index, version, looks)
    ]
    return Seen(played, [command for _, command, _, _ in finished], rows)


def _probe(user: OpenLoopUser, probe: Probe, delays_us: Sequence[int]) -> tuple[Sample, list[Look], int]:
    command, body = user.send(probe.command, 0)
    if command.outcome != "ok":
        return command, [], 0
    version = probe.version or _version(body)
    acknowledged_ns = command.done_us * 1_000
    looks: list[Look] = []
    greenlets = []
    for delay_us in delays_us:
        wait_until(acknowledged_ns + delay_us * 1_000)
        greenlets.append(gevent.spawn(_look, user, probe.read, acknowledged_ns, looks))
    gevent.joinall(greenlets, raise_error=True)
    return command, looks, version


def _look(user: OpenLoopUser, read: Operation, acknowledged_ns: int, looks: list[Look]) -> None:
    sample, body = user.send(read, acknowledged_ns)
    if sample.status == 404:
        looks.append(Look(sample.sent_us, 0))
    elif sample.outcome == "ok":
        looks.append(Look(sample.sent_us, _version(body)))


class _Versioned(msgspec.Struct):
    version: int


def _version(body: bytes) -> int:
    return msgspec.json.decode(body, type=_Versioned).version
