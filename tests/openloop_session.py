"""One open-loop slice in a process of its own, as Locust patches whatever it is imported into.

`python -m tests.openloop_session URL RATE SECONDS POOL` prints {"due","sent","done","outcome"}, a list each.
"""

import json
import random
import sys

from loadtests.openloop import OpenLoopUser
from loadtests.operations import Operation


def schedule(rate_per_s: float, seconds: float) -> list[Operation]:
    rng, due_s, operations = random.Random(7), 0.0, []
    while (due_s := due_s + rng.expovariate(rate_per_s)) < seconds:
        operations.append(Operation(int(due_s * 1e6), "order", "read", "GET", "/orders/1"))
    return operations


def main(url: str, rate_per_s: float, seconds: float, pool: int) -> None:
    samples = OpenLoopUser(url, pool_size=pool).play(schedule(rate_per_s, seconds), seconds).samples
    columns = {
        "due": [sample.operation.due_us for sample in samples],
        "sent": [sample.sent_us for sample in samples],
        "done": [sample.done_us for sample in samples],
        "outcome": [sample.outcome for sample in samples],
    }
    print(json.dumps(columns))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
