"""Which of several stages at which two models part makes the difference: what lies between the two is run, half by half.

A hybrid has the stages before a cut as the first model's record has them, from DVC's cache, and those after it made by the second
one's code and settings. So of the second's gain over the first, what it gains over the hybrid comes from the stages before the cut,
and the rest from those after. The half with the larger share is cut again. Delta debugging (Zeller 1999, Yesterday, my program
worked. Today, it does not. Why?) takes back one part of a change after the other likewise; to follow the larger share, with
intervals, is ours. What a stage does may depend on the others: it is told with those before it as the first model has them, and
those after it as the second does.

Models are compared on the report's test set: of the gate's no look is spent.
"""

import contextlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows import differences, graph, mending, promotion, repro, workspace
from flows.differences import Cause, Side
from tasks.core import environment, gate
from tasks.core.records import DOMAIN_LOSSES, Result
from tasks.core.statistics import Estimate
from tasks.io import files, progress, run_store, tables

FOLDER = workspace.SCRATCH / "why"
"""The workspace in which hybrids are made. It stays behind where one cannot be: its logs say why."""
SHARED = ("spool", "cache")
"""What hybrids have in common with this workspace: runs on their way to MLflow, and answers that were paid for."""
RAW = Path("data/raw")
RESULTS = "data/results/"
TAIL = 0.025
"""The chance with which each bound of an interval is missed."""

Measured = Sequence[Result]


@dataclass(frozen=True)
class Part:
    """Some stages that part, one after the other in the plan, and what they do together."""

    causes: list[Cause]
    worse_by: Estimate
    """How much worse the second model is for them."""
    items: int

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves no doubt that they do something."""
        return not self.worse_by.low <= 0 <= self.worse_by.high


def spans(before: Side, after: Side) -> list[list[Cause]]:
    """What can be told apart: causes in plan order, mostly one by one.

    From the first stage on that only one of the models has, what follows cannot run without it, so these stay together.
    """
    order, shared = list(after.lock), before.lock.keys() & after.lock.keys()
    causes = [cause for cause in differences.causes(before, after) if cause.effect]
    causes.sort(key=lambda cause: (order.index(_place(cause, before, after)), cause.stage in shared))
    first = next((number for number, cause in enumerate(causes) if cause.stage not in shared), len(causes))
    return [[cause] for cause in causes[:first]] + ([causes[first:]] if first < len(causes) else [])


def _place(cause: Cause, before: Side, after: Side) -> str:
    """The stage of the second model's plan at which a cause stands; of one that it has not, the one that comes next."""
    if cause.stage in after.lock:
        return cause.stage
    plan = list(before.lock)
    following = [stage for stage in plan[plan.index(cause.stage) :] if stage in after.lock]
    return following[0] if following else list(after.lock)[-1]


def reruns(before: Side, after: Side) -> list[str]:
    """The stages that a hybrid makes anew, at most: those from the second cause on."""
    found = spans(before, after)
    return _later(after, _place(found[1][0], before, after)) if len(found) > 1 else []


def bisect(before: Side, after: Side, parent: str) -> Iterator[Part]:
    """All causes together, then both halves of what does most, down to the one stage that does; each as soon as it is known.

    Nothing runs where the two models do not differ for certain. `parent` is the MLflow run that those of hybrids belong to.
    Raises FileNotFoundError where DVC's cache has no more what the record names, ValueError where the code is not to be found,
    RuntimeError where a stage fails.
    """
    apart = spans(before, after)
    # By how many spans are as the first model has them.
    found: dict[int, Measured] = {0: _recorded(after), len(apart): _recorded(before)}
    measure = next((name for name in DOMAIN_LOSSES if any(row.measure == name for row in found[0])), None)
    if measure is None:
        raise ValueError(f"{after.name} was not measured on any test item of {' or '.join(DOMAIN_LOSSES)}.")

    def part(low: int, high: int) -> Part:
        told = gate.worse_by(measure, found[low], found[high], TAIL)
        if told is None:
            raise ValueError(
                f"The two have no test item of {measure} in common, so nothing can be held against the other."
            )
        return Part([cause for span in apart[low:high] for cause in span], *told)

    low, high = 0, len(apart)
    yield (whole := part(low, high))
    if not whole.is_certain or high == 1:
        return
    cuts = [_place(span[0], before, after) for span in apart]
    with _laid_out(before, after, cuts[1]) as made:
        while high - low > 1:
            cut = (low + high) // 2
            found[cut] = made(cuts[cut], parent)
            yield (first := part(low, cut))
            yield (later := part(cut, high))
            low, high = (low, cut) if abs(first.worse_by.value) >= abs(later.worse_by.value) else (cut, high)


def _recorded(one: Side) -> list[Result]:
    """What a model made of the test set when it was judged."""
    name = one.card["candidate"]
    return tables.read(graph.cached(_hash_of_results(one, name)), Result)


def _hash_of_results(one: Side, name: str) -> str:
    found = differences.hashes(one.lock.get(f"evaluate@{name}", {}), "outs")
    digest = next((digest for path, digest in found.items() if path.startswith(RESULTS)), None)
    if digest is None:
        raise ValueError(f"The record of {one.name} tells no results of {name} on the test set.")
    return digest


def _making(one: Side) -> list[str]:
    """The stages of a candidate's making, in plan order."""
    needed = differences.upstream(one.lock, [str(promotion.CANDIDATE)])
    return [stage for stage in one.lock if stage in needed]


def _later(after: Side, first: str) -> list[str]:
    """Those from this one on."""
    plan = list(after.lock)
    return [stage for stage in _making(after) if plan.index(stage) >= plan.index(first)]


@contextlib.contextmanager
def _laid_out(before: Side, after: Side, first: str) -> Iterator[Callable[[str, str], Measured]]:
    """Within, a workspace of the second model's code and settings, and what makes a hybrid in it: (cut, parent) → its results.

    Stages from `first` on are those that may run, and must be what the second model's were.
    """
    place, cache = FOLDER.resolve(), mending.cache_folder()
    # Recorders of stages and DVC find their stores by the folder they are in.
    store = run_store.uri()
    if store.startswith("sqlite:///"):
        store = f"sqlite:///{Path(store.removeprefix('sqlite:///')).resolve()}"
    env = {environment.TRACKING_URI: store, "GIT_CEILING_DIRECTORIES": str(place.parent)}
    _write_files(after, first, place, cache)

    runner = repro.StageRunner()

    def make(cut: str, parent: str) -> Measured:
        with contextlib.chdir(place):
            return _make(before, after, cut, runner, env | {environment.PARENT_RUN: parent})

    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        try:
            with runner:
                yield make
        except RuntimeError as error:
            stack.pop_all()
            raise RuntimeError(f"{error}\n(in {FOLDER}, which is left as it is)") from None


def _write_files(after: Side, first: str, place: Path, cache: Path) -> None:
    """Lay out the code that the second model was made with: it is here, or in git."""
    told = ""
    for commit in _sources(after.commit):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if commit is None:
            _copy_files(place)
        else:
            _extract(place, commit)
        _add_what_git_lacks(place, cache)
        shutil.copyfile(after.settings, place / "params.yaml")
        with contextlib.chdir(place):
            problems = _problems(after, first)
        if not problems:
            return
        told += f"\n  {commit[:8] if commit else 'here'}: {'; '.join(problems)}"
    shutil.rmtree(place)
    raise ValueError(f"What made {after.name} is not to be found, so nothing can be made with a part of it:{told}")


def _sources(judged: str) -> Iterator[str | None]:
    """Where the code of a model may be: here (None), in the commit it was judged at, or in the one that came next."""
    yield None
    if judged != "none":
        yield judged
        yield from _git("rev-list", "--reverse", "--ancestry-path", f"{judged}..HEAD").decode().split()[:1]


def _copy_files(place: Path) -> None:
    """The workspace's own files, edited or not."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode()
    for name in filter(None, listed.split("\0")):
        if Path(name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, place / name)


def _extract(place: Path, commit: str) -> None:
    """The files of a commit."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
        archive.extractall(place, filter="data")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def _add_what_git_lacks(place: Path, cache: Path) -> None:
    """DVC's cache, raw data, and what hybrids share with this workspace."""
    (place / ".dvc").mkdir(exist_ok=True)
    own = f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n"
    (place / ".dvc/config.local").write_text(own, encoding="utf-8")
    if RAW.is_dir():
        shutil.rmtree(place / RAW, ignore_errors=True)
        (place / RAW).parent.mkdir(parents=True, exist_ok=True)
        (place / RAW).symlink_to(RAW.resolve())
    for name in SHARED:
        (workspace.SCRATCH / name).mkdir(exist_ok=True)
        (place / workspace.SCRATCH).mkdir(exist_ok=True)
        (place / workspace.SCRATCH / name).symlink_to((workspace.SCRATCH / name).resolve())


def _problems(after: Side, first: str) -> list[str]:
    """In what the stages that may run would differ from the second model's: stage, and why DVC would run it."""
    _lock(after.lock)
    graph.checkout(_making(after))
    needed = _later(after, first)
    return [f"{step.stage}: {'; '.join(step.why)}" for step in graph.plan(needed) if step.stage in needed and step.why]


def _make(before: Side, after: Side, cut: str, runner: repro.StageRunner, env: Mapping[str, str]) -> Measured:
    """The hybrid whose stages before `cut` are the first model's: what it makes of the test set."""
    plan = list(after.lock)
    earlier = [stage for stage in plan[: plan.index(cut)] if stage in before.lock]
    for entry in [*before.lock.values(), *after.lock.values()]:
        for path in differences.hashes(entry, "outs"):
            files.remove(Path(path))
    _lock({stage: before.lock[stage] for stage in earlier})
    graph.checkout(earlier)
    for stage in _later(after, cut):
        state = runner.reproduce(stage, env)
        progress.say(f"  {stage}: {state}")
    card = json.loads(promotion.CANDIDATE.read_text(encoding="utf-8"))
    if card["candidate"] is None:
        raise ValueError(f"What lies between the two has no candidate: {card['why']}.")
    made = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
    hybrid = Side("the hybrid", card, made, [])
    return tables.read(graph.cached(_hash_of_results(hybrid, card["candidate"])), Result)


def _lock(stages: Mapping[str, Any]) -> None:
    text = yaml.safe_dump({"schema": "2.0", "stages": dict(stages)}, sort_keys=False)
    Path("dvc.lock").write_text(text, encoding="utf-8")
