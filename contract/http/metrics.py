"""The metrics of an app as Prometheus text; an observation costs well under a microsecond."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.messages import Readiness

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Histogram:
    """The requests of one operation, in plain lists: with one thread, the client library's locks are not needed."""

    __slots__ = ("counts", "operation", "seconds", "statuses")

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.statuses: Counter[int] = Counter()
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def observe(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


def buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus expects them."""
    return list(zip((*map(str, BOUNDS_S), "+Inf"), accumulate(counts), strict=True))


class Metrics(Collector):
    """The histograms of an app, and the gauges that its system reports at each scrape."""

    def __init__(self, rung: str) -> None:
        self._rung = rung
        self._histograms: list[Histogram] = []
        self._readiness: Readiness | None = None
        self._pool_use = (0, 0)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def histogram(self, operation: str) -> Histogram:
        histogram = Histogram(operation)
        self._histograms.append(histogram)
        return histogram

    def text(self, readiness: Readiness | None, pool_use: tuple[int, int]) -> bytes:
        """`readiness` is None if it could not be measured; its gauges are then absent, not zero."""
        self._readiness, self._pool_use = readiness, pool_use
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("http_requests", "Requests served.", labels=("rung", "operation", "status"))
        durations = HistogramMetricFamily(
            "http_request_duration_seconds", "From the request's head to its response.", labels=("rung", "operation")
        )
        for histogram in self._histograms:
            for status, count in sorted(histogram.statuses.items()):
                requests.add_metric((self._rung, histogram.operation, str(status)), count)
            durations.add_metric((self._rung, histogram.operation), buckets(histogram.counts), histogram.seconds)
        yield from (requests, durations)
        if ready := self._readiness:
            yield GaugeMetricFamily("projection_lag_events", "Events not projected yet.", ready.lag_events)
            yield GaugeMetricFamily(
                "projection_lag_seconds", "Age of the oldest event not projected yet.", ready.lag_seconds
            )
            yield GaugeMetricFamily("projection_parked_events", "Events in the dead-letter queue.", ready.parked_events)
            if ready.lag_bytes is not None:
                yield GaugeMetricFamily("replica_lag_bytes", "Log not replayed by the replica yet.", ready.lag_bytes)
            if ready.reads_on_primary is not None:
                yield CounterMetricFamily(
                    "replica_reads_on_primary", "Reads that the primary answered.", ready.reads_on_primary
                )
            if ready.applied:
                counts, seconds = ready.applied
                told = "Age of events, since they were recorded, when they were applied to the views."
                yield HistogramMetricFamily(
                    "projection_applied_seconds", told, buckets=buckets(counts), sum_value=seconds
                )
            for name, count in (ready.counts or {}).items():
                yield CounterMetricFamily(name, name.replace("_", " ").capitalize() + ".", count)
        in_use, size = self._pool_use
        yield GaugeMetricFamily("database_pool_in_use", "Database connections in use.", in_use)
        yield GaugeMetricFamily("database_pool_size", "Size of the database connection pool.", size)
