"""The schedule of `loadtests.known` through an ordinary session of Locust's, a greenlet for each operation.

`python -m tests.openloop_session URL RATE SECONDS SEED`
"""

import sys
import time

from loadtests.known import schedule, show
from loadtests.openloop import Sample, sample_of
from loadtests.operations import Operation


def ordinary(url: str, operations: list[Operation]) -> list[Sample]:
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


if __name__ == "__main__":
    show(ordinary(sys.argv[1], schedule(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))), [])
