"""Ordinary Locust users on the same operations: `locust -f loadtests/locustfile.py -H URL`, web page and all.

Closed loop: a user waits for a response before its next request, so a slow target gets less load. That is for watching
and trying out; results come from the open loop of `crossover compare`. With --master and --worker every user draws
its ids from a space of its own. The web page is for this machine alone, unless --web-host says otherwise.
"""

import argparse
import os
import random
import uuid
from typing import Any

from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner

from loadtests import workload as workloads
from loadtests.dataset import POPULATION, SIZES, Dataset
from loadtests.fill import FillRefused, fill, require_data
from loadtests.http import HttpClient, Unreachable, require_contract
from loadtests.operations import OperationStream
from loadtests.plan import BadPlan


def _workload(text: str) -> str:
    try:
        workloads.load(text)
    except workloads.WorkloadError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _read_share(text: str) -> str:
    try:
        if text:
            workloads.check_read_share(float(text))
    except (ValueError, workloads.WorkloadError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text  # stays text: that is what the web page sends, too


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _arguments(parser: Any) -> None:
    parser.add_argument("--workload", type=_workload, default="shop", help=f"{', '.join(workloads.names())} or a .toml")
    parser.add_argument("--read-share", type=_read_share, default="", help="percent; empty: the workload's")
    parser.add_argument("--seed", type=int, default=1, help="of the data the target was filled with")
    parser.add_argument("--size", choices=[*SIZES], default="empty", help="of that data: what `serve` was given")
    parser.add_argument("--bearer", default=os.environ.get("CROSSOVER_TOKEN", ""), is_secret=True, help="access token")
    parser.set_defaults(web_host="127.0.0.1")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: object) -> None:
    """An empty shop gets its people and products first (twice changes nothing); one with orders must have them."""
    options = environment.parsed_options
    size = SIZES[options.size]
    environment.shop_data = Dataset(options.seed, *(size if size.customers else POPULATION))
    if isinstance(environment.runner, MasterRunner):
        return  # its workers do it
    client = HttpClient(environment.host, token=options.bearer or None)
    try:
        require_contract("of this test", client)
        if size.customers:
            require_data(client, environment.shop_data, options.size)
        else:
            fill(client, environment.shop_data)
    except (BadPlan, FillRefused, Unreachable) as problem:
        environment.process_exit_code = 2
        raise StopTest(str(problem)) from None


class Shopper(FastHttpUser):  # type: ignore[misc] # Locust comes without types that mypy would follow
    """One user with a stream of operations of its own, so that only what it placed itself is paid and shipped."""

    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        options = self.environment.parsed_options
        workload = workloads.load(options.workload)
        self._read_share_pct = float(options.read_share or workload.read_share_pct)
        self._stream = OperationStream(self.environment.shop_data, workload, uuid.uuid4().hex)
        self._rng = random.Random(self._stream.nonce)
        self._headers = {"Authorization": f"Bearer {options.bearer}"} if options.bearer else {}

    @task  # type: ignore[untyped-decorator]
    def operate(self) -> None:
        operation = self._stream.draw(self._rng, self._read_share_pct)
        headers = self._headers | ({"Content-Type": "application/json"} if operation.body is not None else {})
        self.client.request(operation.method, operation.path, name=operation.name, data=operation.body, headers=headers)
        self._stream.settle()
