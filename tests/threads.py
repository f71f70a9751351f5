"""Threads of tests, which end with what they are for, also when a test fails."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from crossover.targets import LOOPBACK
from tests.service import PATIENCE_S


@contextmanager
def meanwhile(*works: Callable[[], object], end: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Each of these works in a thread until it is done, or `end` ends it; what one raises, is raised here."""
    raised = list[Exception]()

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end()
        for thread in threads:
            thread.join(PATIENCE_S)
        for error in raised:
            raise error
        assert not any(thread.is_alive() for thread in threads), "every thread ends"


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port at which this serves each connection, which ends with it, or when nobody listens any more."""

    def accept() -> None:
        with ExitStack() as stack, suppress(OSError):
            while True:
                client, _ = server.accept()
                stack.enter_context(meanwhile(partial(served, client), end=partial(hang_up, client)))

    def served(client: socket.socket) -> None:
        with client, suppress(OSError):  # a client hangs up when it has read enough
            serve(client)

    def hang_up(one: socket.socket) -> None:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)  # wakes who reads from it, and on Linux who accepts; elsewhere closing does

    def close() -> None:
        hang_up(server)
        server.close()

    with socket.create_server((LOOPBACK, 0)) as server, meanwhile(accept, end=close):
        yield int(server.getsockname()[1])
