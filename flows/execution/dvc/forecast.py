"""Predict what a run does to each stage, and why, without running any stage.

Everything happens in this process: a graph of twenty stages is read and compared with the workspace in under a second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.execution.dvc import cache, repository, run_cache
from tasks.core.nested import flat
from tasks.io.system import git

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

State = Literal["run", "restored", "unchanged", "may change"]

NEVER = "it has not run yet"
SHOWN = 40
"""Characters of a setting's value that a reason quotes."""
CODE = "code "
"""Prefix of a reason that is a file of code."""
NAMED = 3
"""Files of code that a line of reasons names; further ones are only counted."""


@dataclass(frozen=True)
class Step:
    """The forecast for one stage."""

    stage: str
    state: State
    """`may change`: a stage before it runs, and its new outputs decide whether this stage must run."""
    why: tuple[str, ...]
    upstream: tuple[str, ...]
    """The stages that it reads from."""

    @property
    def reasons(self) -> str:
        """Return `why` in one line. After an update dozens of files of code may have changed: `NAMED` are named, the others are counted."""
        code = [reason for reason in self.why if reason.startswith(CODE)]
        count = {reason: f"{len(code) - NAMED} more files of code" for reason in code[NAMED:]}
        return "; ".join(dict.fromkeys(count.get(reason, reason) for reason in self.why))


def plan(targets: Sequence[str] = ()) -> list[Step]:
    """Return the steps that bring `targets` and what they need (all stages if none is named) up to date, in DVC's order.

    `dvc repro --dry` reports a stage as unchanged if only an upstream stage will change its inputs; this plan propagates such changes.
    """
    with repository.opened() as repo:
        graph, order = repository.ordered_stages(repo, targets)
        if not order:
            if git.is_ignored(Path("dvc.yaml")):
                raise ValueError(
                    f"dvc.yaml is ignored by the git repository around {Path.cwd()}, and DVC skips what git ignores. Make this folder a "
                    "repository of its own (git init), or remove the entry from the .gitignore above."
                )
            raise ValueError("dvc.yaml holds no stage.")
        forecast = _Forecast(repo)
        steps = []
        for stage in order:
            upstream = tuple(before.addressing for before in graph.successors(stage))
            state, why = forecast.of(stage)
            steps.append(Step(stage.addressing, state, why, upstream))
        return steps


class _Forecast:
    """Predicts stages in plan order, and remembers the outputs that earlier stages will have."""

    def __init__(self, repo: "Repo") -> None:
        self._repo = repo
        self._coming: dict[str, Output | None] = {}
        """Path → an output that the workspace does not hold yet; None if it cannot be known before its stage has run."""

    def of(self, stage: "Stage") -> tuple[State, tuple[str, ...]]:
        """Return what a run does to this stage, and the reasons."""
        unknown = [] if stage.frozen else [dep for dep in stage.deps if self._is_unknown(dep)]
        causes = [*self._inputs(stage, unknown), *_command(stage)]
        others = [] if NEVER in causes else [*_outputs(stage), *(f"{dep} may change" for dep in unknown)]
        why = tuple(dict.fromkeys([*causes, *others]))
        if not why:
            return "unchanged", ()
        if not unknown and (restored := self._outputs_in_cache(stage, by_entry=not causes)):
            self._coming |= restored
            return "restored", why
        self._coming |= {out.fs_path: None for out in stage.outs}
        return ("run" if causes or not unknown else "may change"), why

    def _source(self, dep: "Output") -> "tuple[str, Output | None] | None":
        """Return the path of the coming output that contains `dep` or lies in it, and the output if it is known and contains `dep`."""
        for path, out in self._coming.items():
            if dep.fs.protocol == "local" and dep.fs.isin_or_eq(dep.fs_path, path):
                return path, out
            if dep.fs.protocol == "local" and dep.fs.isin(path, dep.fs_path):
                return path, None
        return None

    def _is_unknown(self, dep: "Output") -> bool:
        source = self._source(dep)
        return source is not None and source[1] is None

    def _hash(self, dep: "Output") -> Any:
        """Return the hash that `dep` will have when its stage runs; None if the file will be missing."""
        source = self._source(dep)
        if source is None or source[1] is None:
            return dep.get_hash() if dep.exists else None
        part = source[1].get_obj(filter_info=dep.fs_path)
        return part.hash_info if part else None

    def _inputs(self, stage: "Stage", unknown: "list[Output]") -> Iterator[str]:
        from dvc.dependency import ParamsDependency

        if stage.frozen:
            return
        if not cache.has_run(stage):
            yield NEVER
            return
        if stage.always_changed:
            yield "dvc.yaml says that it always runs"
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                yield from _params(dep)
            elif dep not in unknown and (now := self._hash(dep)) != dep.hash_info:
                kind = CODE if dep.fs_path.endswith(".py") else ""
                yield f"{kind}{dep} {'is missing' if now is None else 'changed' if dep.hash_info else 'is a new input'}"

    def _outputs_in_cache(self, stage: "Stage", *, by_entry: bool) -> "dict[str, Output] | None":
        """Return the outputs of an earlier run with exactly the same inputs, if DVC's cache still has them."""
        from dvc_data.hashfile.meta import Meta

        for dep in stage.deps:
            dep.hash_info, dep.meta = self._hash(dep), Meta()  # the old meta would restore its old hash
        if not all(dep.hash_info for dep in stage.deps) or not run_cache.is_used_for(stage):
            return None
        run = run_cache.earlier_run(self._repo, stage, by_entry=by_entry)
        return {out.fs_path: out for out in run.outs} if run else None


def _params(dep: Any) -> Iterator[str]:
    """Yield the settings of a params dependency that differ from those of the last run, by full name."""
    before, now = dict(flat(dep.hash_info.value or {})), dict(flat(dep.read_params()))
    for name in sorted(before.keys() | now.keys()):
        if name not in before:
            yield f"{name} is a new setting ({_short(now[name])})"
        elif name not in now:
            yield f"{name} is gone"
        elif before[name] != now[name]:
            yield f"{name}: {_short(before[name])} → {_short(now[name])}"


def _command(stage: "Stage") -> Iterator[str]:
    if stage.changed_stage():
        yield "its command changed"


def _outputs(stage: "Stage") -> Iterator[str]:
    for path, problem in cache.output_problems(stage).items():
        yield f"{path} {problem}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
