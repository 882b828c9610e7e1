"""Propose the points of a sweep: all of a grid, some drawn at random, or those of an optimiser (optuna's TPE).

Proposals depend only on the axes and on the results of earlier points. So a resumed sweep proposes the same points again, whose trials exist,
on one machine or on many.
"""

import itertools
import json
import math
import random
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from flows.experiments.sweeps.axes import Axis

Point = dict[str, Any]
"""Setting → value."""
Kind = Literal["grid", "random", "tpe"]
TRIALS = 20
"""Number of drawn points if none is given."""
TOGETHER = 4
"""Number of points that an optimiser proposes at once. It is constant, and they may be trained in parallel."""
TRIES = 100
"""Number of draws for each point, after which the search for a new one ends."""
SEED = 0
EXTRA = "`pip install 'ratchet-llm[sweep]'`"


class Sampler(Protocol):
    """A source of points."""

    def ask(self) -> list[Point]:
        """Return the next points; none at the end."""

    def tell(self, values: Sequence[float]) -> None:
        """Take the values of the points of the last `ask`. Lower is better; a diverged point has a value that is not finite."""


def make(kind: Kind, axes: Sequence[Axis], number: int | None) -> Sampler:
    """Return a sampler of at most `number` points. Raises ValueError for a grid over a span, or for a grid with a number of points."""
    if kind == "grid":
        if number is not None:
            raise ValueError("--trials: a grid has as many points as it has. Draw some: --sampler random")
        return Fixed(grid(axes))
    number = number or TRIALS
    if kind == "random":
        return Fixed(drawn(axes, number))
    return Optimiser(axes, number) if _size(axes) > number else Fixed(grid(axes))


def _size(axes: Sequence[Axis]) -> float:
    """Return the number of different points; infinite with a span."""
    return math.prod(math.inf if axis.span else len(axis.values) for axis in axes)


class Fixed:
    """Points that are known before the first is trained."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = list(points)

    def ask(self) -> list[Point]:
        points, self._points = self._points, []
        return points

    def tell(self, values: Sequence[float]) -> None:
        """Ignore the values."""


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Return all combinations of values, the last axis varying first."""
    if spans := [axis.setting for axis in axes if axis.span]:
        raise ValueError(
            f"{spans[0]}: a grid needs values, and this is a span of numbers. Name some, or draw: --sampler random"
        )
    names = [axis.setting for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]


def drawn(axes: Sequence[Axis], number: int) -> list[Point]:
    """Return different random combinations, fewer if there are no more. A larger number only appends to the list."""
    source, points = random.Random(SEED), dict[str, Point]()
    for _ in range(TRIES * number):
        point = {axis.setting: axis.span.draw(source) if axis.span else source.choice(axis.values) for axis in axes}
        points.setdefault(json.dumps(point), point)
        if len(points) == number:
            break
    return list(points.values())


class Optimiser:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), which proposes where good points are more likely."""

    def __init__(self, axes: Sequence[Axis], number: int) -> None:
        try:
            import optuna
        except ModuleNotFoundError:
            raise RuntimeError(f"--sampler tpe needs optuna: {EXTRA}, or take another: --sampler random") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._axes, self._left = optuna, axes, number
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED))
        self._values = {axis.setting: _in_order(axis.values) for axis in axes}
        self._space = {axis.setting: self._distribution(axis) for axis in axes}
        self._asked: dict[str, Any] = {}
        self._known: dict[str, float] = {}

    def ask(self) -> list[Point]:
        """Return the next points. If the optimiser repeats a point, its result is reported again, and another point is requested."""
        self._asked, points = {}, list[Point]()
        for _ in range(TRIES * TOGETHER):
            if len(points) == min(TOGETHER, self._left):
                break
            trial = self._study.ask(self._space)
            point = {axis.setting: self._value(axis, trial) for axis in self._axes}
            if (name := json.dumps(point)) in self._asked or name in self._known:
                self._tell(trial, self._known.get(name, math.nan))
            else:
                self._asked[name] = trial
                points.append(point)
        self._left -= len(points)
        return points

    def tell(self, values: Sequence[float]) -> None:
        for (name, trial), value in zip(self._asked.items(), values, strict=True):
            self._known[name] = value
            self._tell(trial, value)

    def _tell(self, trial: Any, value: float) -> None:
        if math.isfinite(value):
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _distribution(self, axis: Axis) -> Any:
        """Return the distribution of an axis. Numbers are represented by their rank, so that they have neighbours; other values are categories."""
        kinds = self._optuna.distributions
        if axis.span:
            return kinds.FloatDistribution(axis.span.low, axis.span.high, log=axis.span.is_logarithmic)
        if _are_numbers(axis.values):
            return kinds.IntDistribution(0, len(axis.values) - 1)
        return kinds.CategoricalDistribution(list(range(len(axis.values))))

    def _value(self, axis: Axis, trial: Any) -> Any:
        value = trial.params[axis.setting]
        return axis.span.rounded(value) if axis.span else self._values[axis.setting][value]


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _in_order(values: Sequence[Any]) -> Sequence[Any]:
    return sorted(values) if _are_numbers(values) else values
