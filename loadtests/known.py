"""Runs one open-loop slice of a known schedule: `python -m loadtests.known URL RATE SECONDS SEED POOL`.

It needs a process of its own, because importing Locust patches the process. It prints JSON lists with one value per
request: "due", "sent", "done", "outcome", and "told" (whether Locust's event had no exception).
"""

import json
import sys

from loadtests.openloop import POOL_SIZE, OpenLoopUser, Sample
from loadtests.operations import Operation
from loadtests.scripted import due_times_us


def schedule(rate_per_s: float, seconds: float, seed: int) -> list[Operation]:
    return [Operation(due, "order", "read", "GET", "/orders/1") for due in due_times_us(rate_per_s, seconds, seed)]


def show(samples: list[Sample], told: list[bool]) -> None:
    columns = {
        "due": [sample.operation.due_us for sample in samples],
        "sent": [sample.sent_us for sample in samples],
        "done": [sample.done_us for sample in samples],
        "outcome": [sample.outcome for sample in samples],
        "told": told,
    }
    print(json.dumps(columns))


def main(url: str, rate_per_s: float, seconds: float, seed: int, pool: int = POOL_SIZE) -> None:
    user, told = OpenLoopUser(url, pool_size=pool), list[bool]()
    user.environment.events.request.add_listener(lambda exception, **_: told.append(exception is None))
    show(user.play(schedule(rate_per_s, seconds, seed), seconds).samples, told)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
