"""Counts and durations, as Prometheus reads them: TensorFlow Serving's names, and durations by version."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric

from app.serving.answering import Answer

PATH = "/monitoring/prometheus/metrics"  # TensorFlow Serving's
PREFIX = ":tensorflow:serving:"
# Upper ends: of microseconds, of seconds.
MICROSECONDS = tuple(float(2**power * 1000) for power in range(16))
SECONDS = tuple(end / 1e6 for end in MICROSECONDS)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests: Counter[tuple[str, str]] = Counter()
        self.registry.register(self)
        self._latency = Histogram(
            f"{PREFIX}request_latency",
            "Microseconds from the request to its answer, of those that got one.",
            ["model_name", "API", "entrypoint"],
            buckets=MICROSECONDS,
            registry=self.registry,
        )
        self._by_version = Histogram(
            "serving_latency_seconds",
            "Seconds from the request to its answer, by the version and signature that gave it.",
            ["model", "version", "signature"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rows = Histogram(
            f"{PREFIX}request_example_counts",
            "Pictures of a request.",
            ["model"],
            buckets=[2.0**power for power in range(12)],
            registry=self.registry,
        )

    def count(self, model: str, status: str) -> None:
        self._requests[model, status] += 1

    def answered(self, model: str, method: str, answer: Answer[Any], seconds: float, entrypoint: str = "REST") -> None:
        self._latency.labels(model, method, entrypoint).observe(seconds * 1e6)
        self._by_version.labels(model, str(answer.version), answer.signature).observe(seconds)
        self._rows.labels(model).observe(answer.rows)

    def collect(self) -> Iterator[Metric]:
        """The library would end a counter's name in _total; TensorFlow Serving's does not."""
        metric = Metric(f"{PREFIX}request_count", "Requests by the code they ended with.", "unknown")
        for (model, status), count in self._requests.items():
            metric.add_sample(metric.name, {"model_name": model, "status": status}, count)
        yield metric

    def page(self) -> bytes:
        return bytes(generate_latest(self.registry))
