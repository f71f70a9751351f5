"""TCP ports of loopback, for private servers that cannot listen on a Unix socket."""

import random
import socket
from contextlib import ExitStack, suppress

# Below those that the kernel gives to outgoing connections: none of these takes one before the server does, or while a
# server that was killed starts again.
PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago. They are held together, so that they differ."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = random.SystemRandom().choice(PORTS)
            with suppress(OSError):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
    return found


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
