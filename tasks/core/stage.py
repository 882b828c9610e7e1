"""The contract of a stage and the runner: what a stage declares, and what it is given."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tasks.core.config import Config
from tasks.core.text.calls import Call

T = TypeVar("T")


class Round(Config):
    """An entry of the `rounds` map: a training on the examples of its name."""


class Turn(Config):
    """An entry of the `turns` map: a round whose examples are made from those of another, by diagnosing and refining."""

    prev: str
    """The round that it goes on from."""


class Model(Config):
    """An entry of the `models` map."""

    path: str
    """Its folder."""
    base: str
    """The folder of the model that it stands on where it is an adapter; of a whole model, its own."""
    group: str
    """The folder of its metrics; the model of group `reference` is what the others are compared with."""


@dataclass(frozen=True)
class Stage:
    """The files of one stage, by the names its `main` knows them by.

    Paths are relative to the workspace. `{item}` stands for the stage's item (`r0` in `tune@r0`) and any other
    `{key}` for that key of the item's entry in params.yaml. `dvc.yaml` states the same files; a test holds them equal.
    """

    reads: Mapping[str, str] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    items: str | None = None
    """The section of params.yaml whose keys are the items of this stage: `rounds`, `turns`, `models`, or none."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """The methods it composes: family → the setting that names one (`{"adapters": "tune.adapter"}`)."""

    @property
    def trains(self) -> bool:
        """Return True if several processes can share its work (`compute.processes`)."""
        return "optimizers" in self.parts


class Run(Protocol):
    """The context that the runner gives to a stage beside its files and config. Nothing of it may change an output."""

    @property
    def item(self) -> str | None:
        """The item of this run: `r0` in `tune@r0`."""

    @property
    def work(self) -> Path:
        """A scratch folder that belongs to these very inputs: what stands in it survives a crash and serves a resume."""

    @property
    def cache(self) -> Path:
        """A scratch folder that outlives changes of settings: what stands in it is named by its own content."""

    def say(self, text: str) -> None:
        """Print a line for the person who watches."""

    def note(self, **params: Any) -> None:
        """Record facts of this run once: counts, machine class, what a probe found."""

    def log(self, step: int | None = None, **metrics: float) -> None:
        """Record metrics, at a step where they have one."""

    def add(self, **metrics: float) -> None:
        """Add to metrics that are sums over the whole run, and record the sums."""

    def trace(self, call: Call) -> None:
        """Record a call of a model, where traces of this stage are on."""

    def track(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str = "item",
        status: Callable[[], str] = lambda: "",
    ) -> Iterator[T]:
        """The same items, with a progress bar and the time that is left (lines where there is no terminal).

        What `status` returns stands beside it.
        """
