"""One open-loop slice in a process of its own, as Locust patches whatever it is imported into.

`python -m tests.openloop_session URL RATE SECONDS POOL` prints {"due","sent","done","outcome"}, a list each, and what a
listener of Locust's was "told". POOL 0 sends the same schedule through an ordinary FastHttpSession instead.
"""

import json
import random
import sys
import time

from loadtests.openloop import OpenLoopUser, Sample, sample_of
from loadtests.operations import Operation


def schedule(rate_per_s: float, seconds: float) -> list[Operation]:
    rng, due_s, operations = random.Random(7), 0.0, []
    while (due_s := due_s + rng.expovariate(rate_per_s)) < seconds:
        operations.append(Operation(int(due_s * 1e6), "order", "read", "GET", "/orders/1"))
    return operations


def ordinary(url: str, operations: list[Operation]) -> list[Sample]:
    """A greenlet for each operation, as FastHttpUser would send it."""
    import gevent
    from locust.contrib.fasthttp import FastHttpSession
    from locust.env import Environment

    session = FastHttpSession(url, Environment(host=url).events.request, None, concurrency=256)
    start_ns = time.monotonic_ns()

    def send(operation: Operation) -> Sample:
        sent_ns = time.monotonic_ns()
        answer = session.request(operation.method, operation.path)
        return sample_of(operation, start_ns, sent_ns, answer.status_code, answer.content)

    greenlets = [gevent.spawn_later(operation.due_us / 1e6, send, operation) for operation in operations]
    return [greenlet.get() for greenlet in greenlets]


def main(url: str, rate_per_s: float, seconds: float, pool: int) -> None:
    operations, told = schedule(rate_per_s, seconds), []
    if pool:
        user = OpenLoopUser(url, pool_size=pool)
        user.environment.events.request.add_listener(lambda exception, **_: told.append(exception is None))
        samples = user.play(operations, seconds).samples
    else:
        samples = ordinary(url, operations)
    columns = {
        "due": [sample.operation.due_us for sample in samples],
        "sent": [sample.sent_us for sample in samples],
        "done": [sample.done_us for sample in samples],
        "outcome": [sample.outcome for sample in samples],
        "told": told,
    }
    print(json.dumps(columns))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
