"""RabbitMQ: a private broker from the installed `rabbitmq-server`, every setting chosen, and any other by its URL.

It cannot listen on a Unix socket: a private one listens on three ports of loopback, where it asks for a password, or
for Erlang's cookie, that nobody else knows. Erlang's port mapper is started first, as a child of ours: a node that
finds none starts one that outlives it.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from servers.ports import accepts, free_ports
from servers.server import OURS, SERVER_ENV, Facts, Origin, Unusable, without_secrets
from servers.supervisor import START_S_MAX, Processes

SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in PATH lets only root and its own user pass
SETTINGS: dict[str, str] = {
    "default_vhost": "/",
    "default_user": "crossover",
    "loopback_users": "none",
    "vm_memory_high_watermark.relative": "0.4",
    "disk_free_limit.absolute": "64MB",
    "log.file": "false",
    "log.console": "true",
    "log.console.level": "warning",
}
INSTALL = "install it (Debian and Ubuntu: `apt-get install --no-install-recommends rabbitmq-server`)"
ADDRESS = "give amqp://user:password@host:5672/vhost, or amqps:// for TLS, with ?cafile= if need be"
VERSION_MIN = (3, 8)  # quorum queues, and a single active consumer
ASK_S_MAX = 15.0  # of a busy one; who refuses does so at once
AT_ONCE = (signal.SIGKILL, 5.0)  # what it holds is thrown away, so that it need not be put in order first
Answer = TypeVar("Answer")
logging.getLogger("aiormq").addHandler(logging.NullHandler())  # what it meets is told in one sentence instead


class RabbitMQ:
    name, title, variable, one_core = "rabbitmq", "RabbitMQ", "RABBITMQ_URL", False
    durabilities: Mapping[str, Mapping[str, str]] = {"full": {}}  # a quorum queue flushes before it confirms
    disk_check_s = 10.0  # once it was full; no setting changes that

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        from aio_pika.exceptions import AMQPError

        return (AMQPError,)

    # A private one

    def private(self) -> Origin:
        return Origin(_version_of(self._script()), f"from {self._script()}, private to each target")

    def _script(self) -> Path:
        if not os.access(SCRIPT, os.X_OK) or self._epmd() is None:
            raise Unusable(f"RabbitMQ is not installed: {INSTALL}, or set {self.variable} to your own.")
        return SCRIPT

    @staticmethod
    def _epmd() -> str | None:
        return shutil.which("epmd", path=SERVER_ENV["PATH"])

    def start(self, run: Processes, *, durability: str = "full") -> str:
        """Takes about six seconds."""
        self._script()
        home = self.data_folder(run)
        home.mkdir(mode=0o700, exist_ok=True)  # a disk of its own may be mounted there
        (port, distribution, mapper), password = free_ports(3), secrets.token_urlsafe(16)
        settings = SETTINGS | {"listeners.tcp.1": f"127.0.0.1:{port}", "default_pass": password}
        (home / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (home / "enabled_plugins").write_text("[rabbitmq_consistent_hash_exchange].\n")
        (home / "advanced.config").write_text("[].\n")
        (home / "ports").write_text(f"{port} {distribution} {mapper}")
        (home / "url").write_text(f"amqp://{SETTINGS['default_user']}:{password}@127.0.0.1:{port}/")
        return self.restart(run, durability=durability)

    def restart(self, run: Processes, *, durability: str = "full") -> str:
        """Start it where it was over the data that is there, after a crash too."""
        home = self.data_folder(run)
        port, distribution, mapper = map(int, (home / "ports").read_text().split())
        env = SERVER_ENV | {"ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        if self.mapper not in run.children:
            epmd = self._epmd()
            assert epmd is not None, "looked for before the start"
            run.start(self.mapper, [epmd], env=env, stop=AT_ONCE)
            run.wait_for(self.mapper, "Erlang's port mapper", lambda: accepts(mapper))
        run.start(self.name, [self._script()], env=env | self._env(home, distribution), stop=AT_ONCE)
        url = (home / "url").read_text()
        run.wait_for(self.name, "RabbitMQ", lambda: accepts(port))
        self._ask(url, self._try, START_S_MAX)
        return url

    mapper = f"{name}-epmd"

    @staticmethod
    def _env(home: Path, distribution: int) -> dict[str, str]:
        paths = {"MNESIA_BASE": "data", "LOG_BASE": "log", "CONFIG_FILE": "rabbitmq.conf", "PID_FILE": "pid"}
        paths |= {"ADVANCED_CONFIG_FILE": "advanced.config", "ENABLED_PLUGINS_FILE": "enabled_plugins"}
        paths |= {"GENERATED_CONFIG_DIR": "generated"}
        return {
            "HOME": str(home),  # of Erlang's cookie, which it makes there
            "RABBITMQ_NODENAME": "crossover@localhost",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(distribution),
            **{f"RABBITMQ_{name}": str(home / path) for name, path in paths.items()},
            # The script becomes the server, so that it is our child; otherwise a shell would stand between.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def data_folder(self, run: Processes) -> Path:
        return run.folder / self.name

    # Faults

    def process_ids(self, run: Processes) -> list[int]:
        return [run.pids[self.name]]

    def flush(self, run: Processes) -> None:
        """It comes back empty, as one whose disk was replaced."""
        run.stop(self.name)
        shutil.rmtree(self.data_folder(run) / "data")
        self.restart(run)

    def need_space(self, url: str) -> None:
        """A quorum queue is written down before it is there."""
        with contextlib.suppress(Unusable):
            self._ask(url, self._try)

    # Any one

    def check(self, url: str, connections: int = 0) -> Facts:
        async def facts(connection: Any) -> Facts:
            told = connection.transport.connection.server_properties
            product, version = str(told.get("product", "unknown")), str(told.get("version", "unknown"))
            if product != "RabbitMQ":
                raise Unusable(f"{self.variable} leads to {product} {version}: give the address of a RabbitMQ.")
            if tuple(map(int, version.split(".")[:2])) < VERSION_MIN:
                needed = ".".join(map(str, VERSION_MIN))
                raise Unusable(f"The RabbitMQ at {self.variable} is {version}: {needed} or newer is needed.")
            await self._try(connection)
            return Facts(f"RabbitMQ {version}", {"platform": str(told.get("platform", "unknown"))})

        return self._ask(url, facts)

    async def _try(self, connection: Any) -> None:
        """A quorum queue can be made, and is gone with it."""
        channel, name = await connection.channel(), f"{OURS}trial_{secrets.token_hex(4)}"
        arguments = {"x-queue-type": "quorum", "x-expires": 60_000}
        await (await channel.declare_queue(name, durable=True, arguments=arguments)).delete(
            if_unused=False, if_empty=False
        )

    def drop(self, url: str, namespace: str) -> None:
        """AMQP lists nothing: an exchange NAMESPACE, and queues NAMESPACE.0, NAMESPACE.1, … without a gap, are ours."""
        assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"

        async def dropped(connection: Any) -> None:
            number = 0
            while await _there(connection, f"{namespace}.{number}"):
                await (await connection.channel()).queue_delete(f"{namespace}.{number}")
                number += 1
            await (await connection.channel()).exchange_delete(namespace)

        self._ask(url, dropped)

    def holds(self, url: str, namespace: str) -> bool:
        return self._ask(url, lambda connection: _there(connection, f"{namespace}.0"))

    def _ask(self, url: str, question: Callable[[Any], Awaitable[Answer]], within_s: float = ASK_S_MAX) -> Answer:
        import aio_pika
        from aio_pika.exceptions import AMQPError, IncompatibleProtocolError

        async def asked() -> Answer:
            async with asyncio.timeout(within_s):
                connection = await aio_pika.connect(url)
                async with connection:
                    return await question(connection)

        if not url.startswith(("amqp://", "amqps://")):
            raise Unusable(f"{self.variable} is no address: {ADDRESS}.")
        try:
            return asyncio.run(asked())
        except TimeoutError:
            raise Unusable(f"{self.variable} cannot be reached (no answer within {within_s:g} s): start it.") from None
        except (AMQPError, OSError, ValueError, RuntimeError, StopAsyncIteration) as error:
            told = str(error) or "the connection was closed"
            if "Connect call failed" in told:
                told = "Connection refused"
            if "Connection.Close" in told:  # in place of an answer to what opens it
                told = "its virtual host is not there, or not for this user"
            reason = without_secrets(told, url).removesuffix(".")[:200]
            advice = "correct the user, the password, the virtual host or what it names"
            lost = isinstance(error, OSError | IncompatibleProtocolError | StopAsyncIteration)
            if lost and "ACCESS_REFUSED" not in reason:
                advice = "start the server, or correct the address or its cafile"
            raise Unusable(f"{self.variable} cannot be reached ({reason}): {advice}.") from None


async def _there(connection: Any, queue: str) -> bool:
    from aio_pika.exceptions import ChannelNotFoundEntity

    try:
        await (await connection.channel()).declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


@cache
def _version_of(script: Path) -> str:
    """Told by the folder that it lies in: to ask it takes seconds."""
    return script.resolve().parent.parent.name.removeprefix("rabbitmq_server-")


RABBITMQ = RabbitMQ()
