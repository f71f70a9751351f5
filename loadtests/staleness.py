"""How old is what a reader sees: reads at growing delays after an acknowledged command, without a token, under load."""

from collections.abc import Sequence
from typing import NamedTuple

import gevent
import msgspec

from loadtests.openloop import OpenLoopUser, Played, Sample, wait_until
from loadtests.operations import Operation, Probe
from loadtests.visibility import DELAYS_US, Look, Pair, Row, rows_of


class Seen(NamedTuple):
    played: Played  # the background load
    commands: list[Sample]  # of the probes
    rows: list[Row]
    pairs: list[Pair]


def observe(
    user: OpenLoopUser,
    operations: Sequence[Operation],
    probes: Sequence[Probe],
    slice_s: float,
    delays_us: Sequence[int] = DELAYS_US,
) -> Seen:
    """Plays the background load with the probes spread evenly over it, so that their last reads are under load too."""
    seen: list[_Probed | None] = [None] * len(probes)

    def probe_at(index: int, delay_s: float) -> None:
        gevent.sleep(delay_s)
        seen[index] = _probe(user, probes[index], index, delays_us)

    gap_s = max(slice_s - delays_us[-1] / 1e6, slice_s / 2) / max(1, len(probes))
    greenlets = [gevent.spawn(probe_at, index, (index + 0.5) * gap_s) for index in range(len(probes))]
    played = user.play(operations, slice_s)
    gevent.joinall(greenlets, raise_error=True)
    finished = [found for found in seen if found is not None]
    return Seen(
        played,
        [found.command for found in finished],
        [row for found in finished for row in found.rows],
        [found.pair for found in finished if found.pair is not None],
    )


class _Probed(NamedTuple):
    command: Sample
    rows: list[Row]
    pair: Pair | None


def _probe(user: OpenLoopUser, probe: Probe, index: int, delays_us: Sequence[int]) -> _Probed:
    command, body = user.send(probe.command, 0)
    if command.outcome != "ok":
        return _Probed(command, [], None)
    version = probe.version or _version(body)
    acknowledged_ns = command.done_us * 1_000
    looks: list[Look] = []
    pair = gevent.spawn(_pair, user, probe.read, command, index, version)
    greenlets = [pair]
    for delay_us in delays_us:
        wait_until(acknowledged_ns + delay_us * 1_000)
        greenlets.append(gevent.spawn(_look, user, probe.read, acknowledged_ns, looks))
    gevent.joinall(greenlets, raise_error=True)
    return _Probed(command, rows_of(command.operation.name, index, version, looks), pair.value)


def _pair(user: OpenLoopUser, read: Operation, command: Sample, index: int, version: int) -> Pair | None:
    """Both go at once, each in its turn first; the difference of their times is what the token costs."""
    tokens = [command.token, ""] if index % 2 else ["", command.token]
    asked = {token: gevent.spawn(user.send, read, 0, token) for token in tokens}
    gevent.joinall(list(asked.values()), raise_error=True)
    (one, with_body), (other, without_body) = asked[command.token].value, asked[""].value
    behind = one.status == 503
    if len(asked) < 2 or (one.outcome == "error" and not behind) or other.outcome == "error":
        return None  # the target speaks without tokens, or did not answer
    return Pair(
        command.operation.name,
        index,
        one.done_us - one.sent_us,
        other.done_us - other.sent_us,
        not behind and _seen(one, with_body) < version,
        _seen(other, without_body) < version,
        behind,
    )


def _look(user: OpenLoopUser, read: Operation, acknowledged_ns: int, looks: list[Look]) -> None:
    sample, body = user.send(read, acknowledged_ns)
    if sample.outcome == "ok" or sample.status == 404:
        looks.append(Look(sample.sent_us, _seen(sample, body)))


def _seen(sample: Sample, body: bytes) -> int:
    return _version(body) if sample.outcome == "ok" else 0


class _Versioned(msgspec.Struct):
    version: int


def _version(body: bytes) -> int:
    return msgspec.json.decode(body, type=_Versioned).version
