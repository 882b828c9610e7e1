"""Find which of several differing stages causes the difference between two models, by running hybrids of the two models and halving.

A hybrid has the outputs of the first model for the stages before a cut, from DVC's cache, and runs the stages after it with the code and settings
of the second model. So the part of the second model's gain that it has over the hybrid comes from the stages before the cut, and the rest from
those after it. The half with the larger part is cut again. Delta debugging (Zeller 1999, Yesterday, my program worked. Today, it does not. Why?)
also reverts one part of a change after the other; to follow the larger part, with intervals, is ours. The effect of a stage may depend on the others:
it is measured with the first model's stages before it and the second model's stages after it.

Models are compared on the report's test set, so that no look at the gate set is spent.
"""

import contextlib
import io
import json
import math
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.execution import stage_runner, workspace
from flows.execution.dvc import cache, forecast, lock_file, lock_graph, repository
from flows.execution.dvc.console import State
from flows.experiments import model_differences
from flows.experiments.model_differences import Cause, ModelRecord
from flows.registry import promotion
from tasks.core import environment
from tasks.core.promotion import gate
from tasks.core.records import DOMAIN_LOSSES, Result
from tasks.core.statistics import Estimate
from tasks.io import config_file, tables
from tasks.io.runs import run_store
from tasks.io.system import files, git, progress

FOLDER = workspace.SCRATCH / "why"
"""The workspace in which hybrids are made. It is kept if a stage fails, because its logs show the reason."""
SHARED = ("spool", "cache")
"""Folders that hybrids share with this workspace: the run spool, and paid answers of servers."""
RAW = Path("data/raw")
PARAMS = Path("params.yaml")
RESULTS = "data/results/"
TAIL = 0.025
"""The probability outside each bound of an interval."""

Results = Sequence[Result]


@dataclass(frozen=True)
class Part:
    """Consecutive differing stages of the plan, and their joint effect."""

    causes: list[Cause]
    worse_by: Estimate
    """The rise of the second model's loss that they cause."""
    items: int

    @property
    def is_certain(self) -> bool:
        """Return True if the interval excludes zero."""
        return not self.worse_by.low <= 0 <= self.worse_by.high


def separable_causes(before: ModelRecord, after: ModelRecord) -> list[list[Cause]]:
    """Return the causes in plan order, in groups that hybrids can distinguish. Most groups have one cause.

    Stages after one that only one of the models has cannot run without it, so the causes from there on form one group.
    """
    order, shared = list(after.lock), before.lock.keys() & after.lock.keys()
    causes = [cause for cause in model_differences.causes(before, after) if cause.effect]
    causes.sort(key=lambda cause: (order.index(_place(cause, before, after)), cause.stage in shared))
    first = next((number for number, cause in enumerate(causes) if cause.stage not in shared), len(causes))
    return [[cause] for cause in causes[:first]] + ([causes[first:]] if first < len(causes) else [])


def _place(cause: Cause, before: ModelRecord, after: ModelRecord) -> str:
    """Return the position of a cause in the second model's plan; for a stage that the plan lacks, that of the next stage."""
    if cause.stage in after.lock:
        return cause.stage
    plan = list(before.lock)
    following = [stage for stage in plan[plan.index(cause.stage) :] if stage in after.lock]
    return following[0] if following else list(after.lock)[-1]


def stages_to_rerun(before: ModelRecord, after: ModelRecord) -> list[str]:
    """Return the stages that a hybrid may have to run: those from the second group of causes on."""
    groups = separable_causes(before, after)
    return _later(after, _place(groups[1][0], before, after)) if len(groups) > 1 else []


def bisect(before: ModelRecord, after: ModelRecord, parent: str) -> Iterator[Part]:
    """Yield the effect of all causes together, then of both halves of the part with the larger effect, down to a single group.

    It ends after two halves if only their hybrid diverged. Nothing runs if the interval of the whole difference includes zero. `parent` is
    the parent of the hybrids' MLflow runs. Raises FileNotFoundError if DVC's cache lacks a file of the record, ValueError if the code is not
    found, and RuntimeError if a stage fails.
    """
    groups = separable_causes(before, after)
    # Key: the number of groups that come from the first model.
    results: dict[int, Results] = {0: _recorded(after), len(groups): _recorded(before)}
    measure = next((name for name in DOMAIN_LOSSES if any(row.measure == name for row in results[0])), None)
    if measure is None:
        raise ValueError(f"{after.name} was not measured on any test item of {' or '.join(DOMAIN_LOSSES)}.")

    def part(low: int, high: int) -> Part:
        effect = gate.worse_by(measure, results[low], results[high], TAIL)
        if effect is None:
            raise ValueError(f"The two have no test item of {measure} in common, so they cannot be compared.")
        worse_by, items = effect
        if _has_diverged(measure, results[low]) and _has_diverged(measure, results[high]):
            worse_by = Estimate(0.0, 0.0, 0.0, worse_by.n)  # the gate treats it as worse than anything
        return Part([cause for group in groups[low:high] for cause in group], worse_by, items)

    low, high = 0, len(groups)
    yield (total := part(low, high))
    if not total.is_certain or high == 1:
        return
    cuts = [_place(group[0], before, after) for group in groups]
    with _hybrid_workspace(before, after, cuts[1]) as make_hybrid:
        while high - low > 1:
            cut = (low + high) // 2
            results[cut] = make_hybrid(cuts[cut], parent)
            yield (first := part(low, cut))
            yield (later := part(cut, high))
            if not (math.isfinite(first.worse_by.value) or math.isfinite(later.worse_by.value)):
                return  # only the hybrid diverged: neither half has the larger effect
            low, high = (low, cut) if abs(first.worse_by.value) >= abs(later.worse_by.value) else (cut, high)


def _has_diverged(measure: str, results: Sequence[Result]) -> bool:
    return not all(math.isfinite(result.value) for result in results if result.measure == measure)


def _recorded(record: ModelRecord) -> list[Result]:
    """Return a model's results on the test set at the time when it was judged."""
    name = record.card["candidate"]
    return tables.read(cache.file(_hash_of_results(record, name)), Result)


def _hash_of_results(record: ModelRecord, name: str) -> str:
    outs = lock_graph.hashes(record.lock.get(f"evaluate@{name}", {}), "outs")
    digest = next((digest for path, digest in outs.items() if path.startswith(RESULTS)), None)
    if digest is None:
        raise ValueError(f"The record of {record.name} has no results of {name} on the test set.")
    return digest


def _needed_stages(record: ModelRecord) -> list[str]:
    """Return the stages that make a candidate, in plan order."""
    needed = lock_graph.upstream(record.lock, [str(promotion.CANDIDATE)])
    return [stage for stage in record.lock if stage in needed]


def _later(after: ModelRecord, first: str) -> list[str]:
    """Return the needed stages from this one on."""
    plan = list(after.lock)
    return [stage for stage in _needed_stages(after) if plan.index(stage) >= plan.index(first)]


@contextlib.contextmanager
def _hybrid_workspace(before: ModelRecord, after: ModelRecord, first: str) -> Iterator[Callable[[str, str], Results]]:
    """Lay out a workspace with the second model's code and settings, and yield a function that makes a hybrid in it: (cut, parent) → its results.

    Stages from `first` on may run, and must have the second model's code and settings.
    """
    place = FOLDER.resolve()
    cache_folder = cache.folder()
    # Recorders of stages and DVC find their stores by the current folder.
    store = run_store.uri()
    if store.startswith("sqlite:///"):
        store = f"sqlite:///{Path(store.removeprefix('sqlite:///')).resolve()}"
    env, placed = {environment.TRACKING_URI: store}, _hosts()
    _write_files(after, first, place, cache_folder)

    runner = stage_runner.StageRunner()

    def make(cut: str, parent: str) -> Results:
        def reproduce(stage: str) -> State:
            host = placed.get(stage.partition("@")[0])
            on = {environment.ON: host} if host else {}
            return runner.reproduce(stage, env | on | {environment.PARENT_RUN: parent})

        with contextlib.chdir(place):
            return _make(before, after, cut, reproduce)

    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        try:
            with runner:
                yield make
        except RuntimeError as error:
            stack.pop_all()
            raise RuntimeError(f"{error}\n(in {FOLDER}, which is kept)") from None


def _hosts() -> dict[str, str]:
    """Return the hosts on which `resources` puts stages now. The place of a run changes no byte of a hybrid."""
    resources = config_file.parse(PARAMS)[0].get("resources") or {}
    return {stage: entry["host"] for stage, entry in resources.items() if entry.get("host")}


def _write_files(after: ModelRecord, first: str, place: Path, cache_folder: Path) -> None:
    """Lay out the code with which the second model was made: that of the workspace, or of a commit."""
    report = ""
    for commit in _code_places(after.commit):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if commit is None:
            _copy_files(place)
        else:
            _extract(place, commit)
        _add_what_git_lacks(place, cache_folder)
        shutil.copyfile(after.config, place / PARAMS)
        with contextlib.chdir(place):
            problems = _problems(after, first)
        if not problems:
            return
        report += f"\n  {commit[:8] if commit else 'here'}: {'; '.join(problems)}"
    shutil.rmtree(place)
    raise ValueError(
        f"The code and settings that made {after.name} are not found, so no hybrid can be made with them:{report}"
    )


def _code_places(judged: str) -> Iterator[str | None]:
    """Yield the possible places of a model's code: the workspace (None), the commit at which it was judged, and the commit after that."""
    yield None
    if judged != "none":
        yield judged
        yield from git.run("rev-list", "--reverse", "--ancestry-path", f"{judged}..HEAD").decode().split()[:1]


def _copy_files(place: Path) -> None:
    """Copy the workspace's own files, edited or not."""
    for path in git.workspace_files():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / path)


def _extract(place: Path, commit: str) -> None:
    """Extract the files of a commit."""
    with tarfile.open(fileobj=io.BytesIO(git.run("archive", commit))) as archive:
        archive.extractall(place, filter="data")


def _add_what_git_lacks(place: Path, cache_folder: Path) -> None:
    """Link what is not in git: DVC's cache, raw data, and the folders that hybrids share with this workspace."""
    # It is a separate git repository, so that runs name no commit of this workspace and stages on hosts get the files that git would add.
    subprocess.run(["git", "init", "--quiet"], cwd=place, check=True)
    repository.write_local_config(place, cache_folder)
    if RAW.is_dir():
        shutil.rmtree(place / RAW, ignore_errors=True)
        (place / RAW).parent.mkdir(parents=True, exist_ok=True)
        (place / RAW).symlink_to(RAW.resolve())
    for name in SHARED:
        (workspace.SCRATCH / name).mkdir(exist_ok=True)
        (place / workspace.SCRATCH).mkdir(exist_ok=True)
        (place / workspace.SCRATCH / name).symlink_to((workspace.SCRATCH / name).resolve())


def _problems(after: ModelRecord, first: str) -> list[str]:
    """Return the stages that would wrongly differ from the second model's, and why DVC would run them."""
    lock_file.write(after.lock)
    cache.checkout(_needed_stages(after))
    needed = _later(after, first)
    return [
        f"{step.stage}: {'; '.join(step.why)}" for step in forecast.plan(needed) if step.stage in needed and step.why
    ]


def _make(before: ModelRecord, after: ModelRecord, cut: str, reproduce: Callable[[str], State]) -> Results:
    """Make the hybrid whose stages before `cut` are the first model's, and return its results on the test set."""
    plan = list(after.lock)
    earlier = [stage for stage in plan[: plan.index(cut)] if stage in before.lock]
    for entry in [*before.lock.values(), *after.lock.values()]:
        for path in lock_graph.hashes(entry, "outs"):
            files.remove(Path(path))
    lock_file.write({stage: before.lock[stage] for stage in earlier})
    cache.checkout(earlier)
    for stage in _later(after, cut):
        progress.say(f"  {stage}: {reproduce(stage)}")
    card = json.loads(promotion.CANDIDATE.read_text(encoding="utf-8"))
    if card["candidate"] is None:
        raise ValueError(f"The hybrid has no candidate: {card['why']}.")
    hybrid = ModelRecord("the hybrid", card, lock_file.stages(), [])
    return tables.read(cache.file(_hash_of_results(hybrid, card["candidate"])), Result)
