"""What a target's projector says of itself: how many events came into the views within which time."""

import re

from loadtests.client import Client, Unreachable

_BUCKET = re.compile(r'^projection_applied_seconds_bucket\{le="([^"]+)"\} (\S+)', re.MULTILINE)


def read_applied(client: Client) -> dict[float, int]:
    """Seconds → events so far; empty where nothing is told. After a restart it begins anew."""
    try:
        told = client.get("/metrics").body.decode("utf-8", "replace")
    except Unreachable:
        return {}
    return {float(within): int(float(count)) for within, count in _BUCKET.findall(told)}
