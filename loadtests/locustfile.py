"""Ordinary Locust users on the same operations: `locust -f loadtests/locustfile.py -H URL`, web page and all.

Closed loop: a user waits for a response before its next request, so a slow target gets less load. That is for watching
and trying out; results come from the open loop of `crossover compare`. With --master and --worker every user draws
its ids from a space of its own. The web page is for this machine alone, unless --web-host says otherwise.
"""

import argparse
import os
import random
import sys
import time
import uuid
from typing import Any

import gevent
from locust import User, between, events, task
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner

from loadtests import workload as workloads
from loadtests.address import address_of, bearer_of
from loadtests.dataset import POPULATION, SIZES, Dataset
from loadtests.fill import FillRefused, fill, require_data
from loadtests.http import HttpClient, Unreachable, require_contract
from loadtests.operations import OperationStream, outcome_of
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


def _bearer(text: str) -> str:
    try:
        return bearer_of(text) or ""
    except BadPlan as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _arguments(parser: Any) -> None:
    parser.add_argument("--workload", type=_workload, default="shop", help=f"{', '.join(workloads.names())} or a .toml")
    parser.add_argument("--read-share", type=_read_share, default="", help="percent; empty: the workload's")
    parser.add_argument("--seed", type=int, default=1, help="of the data the target was filled with")
    parser.add_argument("--size", choices=[*SIZES], default="empty", help="of that data: what `serve` was given")
    token = os.environ.get("CROSSOVER_TOKEN", "")  # on the web page it would stand in the source
    parser.add_argument("--bearer", type=_bearer, default=token, include_in_web_ui=False, help="access token")
    parser.set_defaults(web_host="127.0.0.1")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _check_address(environment: Environment, **_: object) -> None:
    """Before the web page is there, which could be given another one."""
    environment.given_host = environment.host
    if environment.host is not None and not isinstance(environment.runner, WorkerRunner):
        try:
            address_of(environment.host)
        except BadPlan as problem:
            print(problem, file=sys.stderr)
            sys.exit(2)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: object) -> None:
    """An empty shop gets its people and products first (twice changes nothing); one with orders must have them."""
    options = environment.parsed_options
    size = SIZES[options.size]
    environment.shop_data = Dataset(options.seed, *(size if size.customers else POPULATION))
    try:
        client = client_of(environment)
        if isinstance(environment.runner, MasterRunner):
            return  # its workers do it
        require_contract("of this test", client)
        if size.customers:
            require_data(client, environment.shop_data, options.size)
        else:
            fill(client, environment.shop_data)
    except (BadPlan, FillRefused, Unreachable) as problem:
        environment.process_exit_code = 2
        raise StopTest(str(problem)) from None


def client_of(environment: Environment) -> HttpClient:
    """The token goes to the address that Locust was started with; the workers' is the master's."""
    token, own = environment.parsed_options.bearer or None, not isinstance(environment.runner, WorkerRunner)
    if token and own and environment.host != environment.given_host:
        raise BadPlan("The token is for the address that Locust was started with: start it again with -H.")
    return HttpClient(environment.host, token=token)


class Shopper(User):  # type: ignore[misc] # Locust comes without types that mypy would follow
    """One user with a stream of operations of its own, so that only what it placed itself is paid and shipped."""

    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        options = self.environment.parsed_options
        workload = workloads.load(options.workload)
        self._read_share_pct = float(options.read_share or workload.read_share_pct)
        self._stream = OperationStream(self.environment.shop_data, workload, uuid.uuid4().hex)
        self._rng = random.Random(self._stream.nonce)
        self._client = client_of(self.environment)

    @task  # type: ignore[untyped-decorator]
    def operate(self) -> None:
        operation, began_s = self._stream.draw(self._rng, self._read_share_pct), time.perf_counter()
        size, problem = 0, None
        try:
            answer = self._client.request(operation.method, operation.path, operation.body)
            size = len(answer.body)
            if outcome_of(answer.status) != "ok":
                problem = RuntimeError(f"it answered {answer.status}")
        except Unreachable as error:
            problem = RuntimeError(str(error))
        self.environment.events.request.fire(
            request_type=operation.method,
            name=operation.name,
            response_time=1000 * (time.perf_counter() - began_s),
            response_length=size,
            exception=problem,
            context={},
        )
        self._stream.settle()


# A time limit counts from what the loop takes for the present: its start, which was before all these imports.
gevent.get_hub().loop.update_now()
