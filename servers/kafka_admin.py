"""librdkafka's client for the administration of Kafka; imported once a broker is asked, and not before."""

import logging
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from servers.server import OURS

ASK_S_MAX = 15.0  # of a busy one; who refuses does so at once
SILENT = logging.getLogger("servers.kafka.client")  # what it meets is told in one sentence instead
SILENT.addHandler(logging.NullHandler())


class Admin:
    """Tells why it has no answer as soon as it knows."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._met: list[Any] = []
        self._client = AdminClient(settings | {"error_cb": self._met.append, "logger": SILENT})

    def settings_after_a_trial(self) -> dict[str, str | None]:
        """Those of its controller, or of a broker that stands for it, once a topic can be made."""
        broker = self._result(self._client.describe_cluster(request_timeout=ASK_S_MAX)).controller
        resource = ConfigResource(ConfigResource.Type.BROKER, broker.id_string)
        (described,) = self._client.describe_configs([resource], request_timeout=ASK_S_MAX).values()
        settings = {name: entry.value for name, entry in self._result(described).items()}
        self.create(f"{OURS}trial", trial=True)
        return settings

    def create(self, topic: str, *, trial: bool = False) -> None:
        """A trial tells whether it can be made, and makes none."""
        new = [NewTopic(topic, num_partitions=1)]
        (created,) = self._client.create_topics(new, validate_only=trial, request_timeout=ASK_S_MAX).values()
        self._result(created)

    def topics(self, within_s: float = ASK_S_MAX) -> list[str]:
        return list(self._client.list_topics(timeout=within_s).topics)

    def delete(self, topics: list[str]) -> None:
        """Those that are gone already are still listed for a moment."""
        for deleted in self._client.delete_topics(topics).values() if topics else ():
            try:
                self._result(deleted)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise

    def _result(self, future: "Future[Any]") -> Any:
        """Of a request; its exception when no broker can be reached, or none lets us in."""
        while not future.done():
            self._client.poll(0.01)
            names = [error.code() for error in self._met]
            if KafkaError._ALL_BROKERS_DOWN in names or KafkaError._AUTHENTICATION in names:
                raise KafkaException(min(self._met, key=lambda error: error.code() == KafkaError._ALL_BROKERS_DOWN))
        return future.result()
