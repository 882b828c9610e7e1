"""Count the gateway's metrics, served in Prometheus' format at `/metrics`."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
UNKNOWN = "unknown"
"""The model label of a request for a model that is not served: made-up names must not create new time series."""


class Metrics:
    """Counters of one gateway. The label `model` is a served name, `alias` what was asked for."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests, by status.", "model", "endpoint", "status")
        self._tokens = self._counter("tokens", "Tokens of prompts and of completions.", "model", "kind")
        self._switches = self._counter("switches", "Changes of what an alias leads to.", "alias", "outcome")
        self._restarts = self._counter("worker_restarts", "Workers that ended by themselves.", "model")
        self._lost_prompts = self._counter("lost_prompts", "Answered prompts that could not be written.")
        self._seconds = Histogram(
            "ratchet_serve_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("model", "endpoint"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._queue = Gauge("ratchet_serve_queue", "Requests that run or wait.", ("alias",), registry=self._registry)
        self._model = Gauge(
            "ratchet_serve_model",
            "1 for the model that an alias leads to.",
            ("alias", "model"),
            registry=self._registry,
        )

    def request(self, model: str, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(model, endpoint, str(status)).inc()
        self._seconds.labels(model, endpoint).observe(seconds)

    def tokens(self, model: str, usage: Mapping[str, Any]) -> None:
        """Count the tokens of an answer."""
        for kind in ("prompt", "completion"):
            self._tokens.labels(model, kind).inc(int(usage.get(f"{kind}_tokens") or 0))

    def queue(self, alias: str, length: int) -> None:
        """Set the number of requests that run or wait for an alias."""
        self._queue.labels(alias).set(length)

    def switched(self, alias: str, old: str | None, new: str) -> None:
        """Record that an alias leads to another model."""
        if old is not None:
            self._model.remove(alias, old)
            self._switches.labels(alias, "switched").inc()
        self._model.labels(alias, new).set(1)

    def switch_failed(self, alias: str) -> None:
        """Count a model that could not be put in place."""
        self._switches.labels(alias, "failed").inc()

    def restarted(self, model: str) -> None:
        """Count a worker that ended by itself."""
        self._restarts.labels(model).inc()

    def prompt_lost(self) -> None:
        """Count a prompt that could not be written."""
        self._lost_prompts.inc()

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"ratchet_serve_{name}", about, labels, registry=self._registry)
