"""The interface between a stage and the runner: the declarations of a stage, and its run context."""

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
    """The round whose examples it improves."""


class Model(Config):
    """An entry of the `models` map."""

    path: str
    """Its folder."""
    base: str
    """For an adapter, the folder of its base model; for a whole model, the folder of the model itself."""
    group: str
    """The folder of its metrics. The others are compared with the model of group `reference`."""


@dataclass(frozen=True)
class Stage:
    """The files of one stage, by the names that its `main` uses.

    Paths are relative to the workspace. `{item}` stands for the stage's item (`r0` in `tune@r0`) and any other
    `{key}` for that key of the item's entry in params.yaml. `dvc.yaml` lists the same files, and a test holds them equal.
    """

    reads: Mapping[str, str] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    items: str | None = None
    """The section of params.yaml whose keys are the items of this stage: `rounds`, `turns`, `models`, or none."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """The methods it composes: family → the setting that names one (`{"adapters": "tune.adapter"}`)."""

    @property
    def trains(self) -> bool:
        """Return Return True if several processes can share its work (`compute.processes`)."""
        return "optimizers" in self.parts


class Run(Protocol):
    """The context that the runner passes to a stage beside its files and config. It must not influence an output."""

    @property
    def item(self) -> str | None:
        """The item of this run: `r0` in `tune@r0`."""

    @property
    def work(self) -> Path:
        """A scratch folder for exactly these inputs. Its contents survive a crash, so that the stage can resume from them."""

    @property
    def cache(self) -> Path:
        """A scratch folder that is kept when settings change. Each entry has a name computed from its content."""

    def say(self, text: str) -> None:
        """Print a line for the user."""

    def note(self, **params: Any) -> None:
        """Record facts of this run once: counts, machine class, results of probes."""

    def log(self, step: int | None = None, **metrics: float) -> None:
        """Record metrics, with their step if they have one."""

    def add(self, **metrics: float) -> None:
        """Add to metrics that are sums over the whole run, and record the sums."""

    def trace(self, call: Call) -> None:
        """Record a call of a model, if traces of this stage are on."""

    def track(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str = "item",
        status: Callable[[], str] = lambda: "",
    ) -> Iterator[T]:
        """Yield the items, and show a progress bar with the remaining time (or lines, without a terminal).

        The text that `status` returns is shown beside it.
        """
