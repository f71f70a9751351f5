"""Staleness probes: reads at growing delays after an acknowledged command, under load, with and without its token."""

from collections.abc import Sequence
from typing import NamedTuple

import gevent
import msgspec

from loadtests.openloop import OpenLoopUser, Played, Sample, wait_until
from loadtests.operations import Operation, Probe
from loadtests.staleness import DELAYS_US, ProbeRead, StalenessRow, TokenRow, rows_of


class Observed(NamedTuple):
    """What the probes of one slice showed."""

    commands: list[Sample]
    rows: list[StalenessRow]
    tokens: list[TokenRow]


def observe(
    user: OpenLoopUser,
    operations: Sequence[Operation],
    probes: Sequence[Probe],
    slice_s: float,
    delays_us: Sequence[int] = DELAYS_US,
) -> tuple[Played, Observed]:
    """Play the background load with the probes spread evenly over it, so that their last reads are under load too."""
    found = Observed([], [], [])

    def probe_at(index: int, delay_s: float) -> None:
        gevent.sleep(delay_s)
        _probe(user, probes[index], index, delays_us, found)

    gap_s = max(slice_s - delays_us[-1] / 1e6, slice_s / 2) / max(1, len(probes))
    greenlets = [gevent.spawn(probe_at, index, (index + 0.5) * gap_s) for index in range(len(probes))]
    played = user.play(operations, slice_s)
    gevent.joinall(greenlets, raise_error=True)
    return played, found


def _probe(user: OpenLoopUser, probe: Probe, index: int, delays_us: Sequence[int], found: Observed) -> None:
    command, body = user.send(probe.command, 0)
    found.commands.append(command)
    if command.outcome != "ok":
        return
    version = probe.version or _version(body)
    acknowledged_ns = command.done_us * 1_000
    reads: list[ProbeRead] = []
    tokens = gevent.spawn(_read_with_and_without, user, probe.read, command, index, version)
    greenlets = [tokens]
    for delay_us in delays_us:
        wait_until(acknowledged_ns + delay_us * 1_000)
        greenlets.append(gevent.spawn(_read, user, probe.read, acknowledged_ns, reads))
    gevent.joinall(greenlets, raise_error=True)
    found.rows.extend(rows_of(command.operation.name, index, version, reads))
    if tokens.value is not None:
        found.tokens.append(tokens.value)


def _read_with_and_without(
    user: OpenLoopUser, read: Operation, command: Sample, index: int, version: int
) -> TokenRow | None:
    """Both are sent at once, in alternating order; the difference of their times is what the token costs."""
    tokens = [command.token, ""] if index % 2 else ["", command.token]
    sent = {token: gevent.spawn(user.send, read, 0, token) for token in tokens}
    gevent.joinall(list(sent.values()), raise_error=True)
    (one, with_body), (other, without_body) = sent[command.token].value, sent[""].value
    behind = one.status == 503
    if len(sent) < 2 or (one.outcome == "error" and not behind) or other.outcome == "error":
        return None  # the target has no tokens, or did not respond
    return TokenRow(
        command.operation.name,
        index,
        one.done_us - one.sent_us,
        other.done_us - other.sent_us,
        not behind and _shown(one, with_body) < version,
        _shown(other, without_body) < version,
        behind,
    )


def _read(user: OpenLoopUser, read: Operation, acknowledged_ns: int, reads: list[ProbeRead]) -> None:
    sample, body = user.send(read, acknowledged_ns)
    if sample.outcome == "ok" or sample.status == 404:
        reads.append(ProbeRead(sample.sent_us, _shown(sample, body)))


def _shown(sample: Sample, body: bytes) -> int:
    """The version that a response shows; 0 for a resource that is not there."""
    return _version(body) if sample.outcome == "ok" else 0


class _Versioned(msgspec.Struct):
    version: int


def _version(body: bytes) -> int:
    """0 where the body shows none."""
    try:
        return msgspec.json.decode(body, type=_Versioned).version
    except ValueError:
        return 0
