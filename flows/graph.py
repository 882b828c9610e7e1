"""DVC's graph, what a run would make of it, and its lock file. The one module that knows DVC's internals (dvc 3.67).

Everything here runs in this process: a graph of twenty stages is read and compared with the workspace in under a second.
"""

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows import workspace
from flows.mending import GOOD, LOCK, TEMPORARY, lock_problem
from tasks.core.nested import flat
from tasks.io import progress

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage
    from networkx import DiGraph

State = Literal["run", "restored", "unchanged", "may change"]

NEVER = "it has not run yet"
_WRONG = {"deleted": "is missing", "modified": "was changed by hand", "not in cache": "is not in DVC's cache"}
"""What DVC says of an output → the same to a person."""
GONE = "not in DVC's cache. `dvc gc` took it, or the cache of another machine has it."
SHOWN = 40
"""Characters of a parameter's value that a reason quotes."""


@dataclass(frozen=True)
class Step:
    """What a run makes of one stage, foretold."""

    stage: str
    state: State
    """`may change`: a stage before it runs, and whether this one must follow depends on what that writes."""
    why: tuple[str, ...]
    upstream: tuple[str, ...]
    """The stages that it reads from."""


def plan(targets: Sequence[str] = ()) -> list[Step]:
    """The steps that bring `targets` and what they need (all stages where none is named) up to date, in DVC's order.

    `dvc repro --dry` calls everything unchanged that only a stage before it will change; this follows the changes.
    """
    with _repo() as repo:
        graph, order = _ordered(repo, targets)
        if not order:
            raise ValueError("dvc.yaml holds no stage.")
        forecast = _Forecast(repo)
        steps = []
        for stage in order:
            upstream = tuple(before.addressing for before in graph.successors(stage))
            state, why = forecast.of(stage)
            steps.append(Step(stage.addressing, state, why, upstream))
        return steps


def tidy() -> bool:
    """Put `dvc.lock` in its canonical form: stages in plan order, stale ones gone. True where its bytes changed.

    Two drivers finish stages in different orders; in this form their lock files agree to the byte. What a write that was cut off has
    lost at the end is put back from the last good copy: an entry that is out of date makes its stage run, no more.
    """
    from dvc.utils.serialize import dumps_yaml, load_yaml

    with _repo() as repo:
        if not LOCK.exists():
            return False
        lock = load_yaml(LOCK)
        before = load_yaml(GOOD).get("stages", {}) if GOOD.exists() and not lock_problem(GOOD) else {}
        names = [stage.name for stage in _ordered(repo)[1] if hasattr(stage, "name")]
        known = lock.get("stages", {})
        if lost := [name for name in _lost(known, before) if name in names]:
            known |= {name: before[name] for name in lost}
            progress.say(f"{LOCK} lacks {', '.join(lost)}, which its last good copy has; put back from there.")
        order = [name for name in names if name in known]
        text = dumps_yaml(lock | {"stages": {name: known[name] for name in order}})
        changed = text != LOCK.read_text(encoding="utf-8")
        if changed:
            workspace.replace(LOCK, text, TEMPORARY)
        workspace.replace(GOOD, text)
        return changed


def _lost(known: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """The stages that a write of dvc.lock lost as it was cut off: the last ones of the copy, as far as nothing or only a part of
    what the copy has is there."""

    def is_lost(name: str) -> bool:
        return known.get(name) != before[name] and _is_part(known.get(name, {}), before[name])

    return list(takewhile(is_lost, reversed(before)))[::-1]


def _is_part(some: Any, whole: Any) -> bool:
    """Whether all that the one holds stands in the other too."""
    if isinstance(some, dict) and isinstance(whole, dict):
        return all(name in whole and _is_part(value, whole[name]) for name, value in some.items())
    if isinstance(some, list) and isinstance(whole, list):
        return len(some) <= len(whole) and all(map(_is_part, some, whole))
    return bool(some == whole)


def stale() -> list[str]:
    """Stages that `dvc.lock` knows and dvc.yaml does not."""
    from dvc.utils.serialize import load_yaml

    with _repo() as repo:
        known = {stage.addressing for stage in repo.index.graph}
        return [name for name in (load_yaml(LOCK) if LOCK.exists() else {}).get("stages", {}) if name not in known]


def relink(stages: Sequence[str]) -> None:
    """Let the outputs of these stages share their bytes with DVC's cache, where the file system allows it.

    DVC leaves copies behind when it commits a folder: a model would lie on the disk twice.
    """
    if stages:
        with _repo() as repo:
            repo.checkout(targets=list(stages), relink=True)


def outputs() -> tuple[int, dict[str, str]]:
    """How many outputs dvc.lock names, and which of them are not what it says: path → what is wrong."""
    with _repo() as repo:
        outs = [out for stage in _ordered(repo)[1] for out in stage.outs]
        wrong = {str(out): "has no hash in dvc.lock" for out in outs if not out.hash_info}
        for out in outs:
            wrong |= {path: _WRONG[what] for path, what in out.status().items() if out.hash_info and what in _WRONG}
        return len(outs), wrong


def checkout(stages: Sequence[str]) -> None:
    """Put the outputs of these stages in place, as dvc.lock has them. Raises FileNotFoundError where DVC's cache lacks one."""
    from dvc.exceptions import CheckoutError

    with _repo() as repo:
        try:
            repo.checkout(targets=list(stages), force=True)
        except CheckoutError as error:
            raise FileNotFoundError(f"{', '.join(error.target_infos)}: {GONE}") from None


def cached(digest: str) -> Path:
    """The file in DVC's cache with this hash. Raises FileNotFoundError where it is not there."""
    with _repo() as repo:
        path = Path(repo.cache.local.oid_to_path(digest))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {GONE}")
    return path


def has_remote() -> bool:
    """Whether DVC knows where to push to."""
    with _repo() as repo:
        return bool(repo.config["core"].get("remote"))


class _Forecast:
    """What each stage will do, asked in plan order. Remembers what earlier answers say about files to come."""

    def __init__(self, repo: "Repo") -> None:
        self._repo = repo
        self._coming: dict[str, Output | None] = {}
        """Outputs that the workspace does not hold yet; None where nobody can know them before their stage has run."""

    def of(self, stage: "Stage") -> tuple[State, tuple[str, ...]]:
        unknown = [] if stage.frozen else [dep for dep in stage.deps if self._is_unknown(dep)]
        causes = [*self._inputs(stage, unknown), *_command(stage)]
        after = [] if NEVER in causes else [f"{dep} may change" for dep in unknown]
        why = tuple(dict.fromkeys([*causes, *_outputs(stage), *after]))
        if not why:
            return "unchanged", ()
        if not unknown and (restored := self._in_cache(stage, own=not causes)):
            self._coming |= restored
            return "restored", why
        self._coming |= {out.fs_path: None for out in stage.outs}
        return ("run" if causes or not unknown else "may change"), why

    def _source(self, dep: "Output") -> "tuple[str, Output | None] | None":
        """The output to come that holds `dep`, or that `dep` holds."""
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
        """The hash that `dep` will have when its stage's turn comes."""
        source = self._source(dep)
        if source is None or source[1] is None:
            return dep.get_hash() if dep.exists else None
        held = source[1].get_obj(filter_info=dep.fs_path)
        return held.hash_info if held else None

    def _inputs(self, stage: "Stage", unknown: "list[Output]") -> Iterator[str]:
        from dvc.dependency import ParamsDependency

        if stage.frozen:
            return
        if not any(dep.hash_info for dep in stage.deps) and not any(out.hash_info for out in stage.outs):
            yield NEVER
            return
        if stage.always_changed:
            yield "dvc.yaml says that it always runs"
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                yield from _params(dep)
            elif dep not in unknown and (found := self._hash(dep)) != dep.hash_info:
                kind = "code " if dep.fs_path.endswith(".py") else ""
                yield f"{kind}{dep} {'is missing' if found is None else 'changed' if dep.hash_info else 'is a new input'}"

    def _in_cache(self, stage: "Stage", *, own: bool) -> "dict[str, Output] | None":
        """The outputs of an earlier run with the very same inputs, where DVC's cache still has them.

        `own`: the inputs are those of the stage's entry in dvc.lock, so that the entry itself tells the outputs.
        """
        from dvc.stage.serialize import to_single_stage_lockfile
        from dvc_data.hashfile.meta import Meta

        for dep in stage.deps:
            dep.hash_info, dep.meta = self._hash(dep), Meta()  # an old meta would bring its old hash along
        if not all(dep.hash_info for dep in stage.deps) or not _has_run_cache(stage):
            return None
        cache = self._repo.stage_cache
        entry = to_single_stage_lockfile(stage)
        if not own or not all(out.hash_info for out in stage.outs):
            entry = _newest(cache, entry)
        if not entry:
            return None
        earlier = cache._create_stage(entry, wdir=stage.wdir)
        return {out.fs_path: out for out in earlier.outs} if earlier.outs_cached() else None


def _has_run_cache(stage: "Stage") -> bool:
    """Whether DVC looks for earlier runs of this stage (`dvc.stage.cache._can_hash`, which needs the inputs to exist)."""
    outs = all(out.protocol == "local" and out.is_in_repo and not out.persist for out in stage.outs)
    deps = all(dep.protocol == "local" and dep.def_path for dep in stage.deps)
    return bool(stage.cmd and stage.deps and stage.outs and outs and deps) and not (
        stage.always_changed or stage.frozen
    )


def _newest(cache: Any, entry: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of the latest run with the same command, inputs and names of outputs, which is the one that DVC restores."""
    from dvc.stage.cache import _get_cache_hash

    key = _get_cache_hash(entry, key=True)
    runs = [path for path in Path(cache._get_cache_dir(key)).glob("*") if path.is_file()]
    return cache._load_cache(key, max(runs, key=lambda path: path.stat().st_mtime).name) if runs else None


def _params(dep: Any) -> Iterator[str]:
    """Every setting of a params dependency that differs from the last run, by its full name."""
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
    for out in (out for out in stage.outs if out.hash_info):
        for path, what in out.status().items():
            if what in _WRONG:
                yield f"{path} {_WRONG[what]}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _ordered(repo: "Repo", targets: Sequence[str] = ()) -> "tuple[DiGraph[Stage], list[Stage]]":
    """DVC's graph (stage → what it reads from), and the stages in the order in which `dvc repro` takes them."""
    from dvc.repo.reproduce import get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    by_name = {stage.addressing: stage for stage in graph}
    chosen: list[Stage] = []
    for target in targets:
        group = [stage for name, stage in by_name.items() if name == target or name.startswith(f"{target}@")]
        if not group:
            near = difflib.get_close_matches(target, by_name, n=2)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(by_name)}."
            raise ValueError(f"dvc.yaml has no stage {target!r}. {hint}")
        chosen += group
    # A target's own order is that of the whole graph: what runs is a part of `dvc repro`, in the same order.
    needed = set(plan_repro(graph, chosen or None))
    return graph, [stage for stage in plan_repro(graph) if stage in needed]


@contextmanager
def _repo() -> "Iterator[Repo]":
    """The workspace's DVC repository under its lock. Whatever DVC refuses comes out as one ValueError."""
    try:
        from dvc.exceptions import CyclicGraphError, DvcException
        from dvc.repo import lock_repo
    except ImportError as error:
        raise RuntimeError(f"DVC cannot be imported ({error}). `pip install 'dvc>=3.61,<4'` installs it.") from None
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        raise FileNotFoundError(f"{Path.cwd()} has no dvc.yaml and .dvc/. Run this in the project's root folder.")
    logging.getLogger("dvc").setLevel(logging.ERROR)
    repo = None
    try:
        repo = _open()
        with lock_repo(repo):
            yield repo
    except CyclicGraphError as error:
        names = str(error).rpartition(": ")[2].rstrip(".")
        raise ValueError(
            f"dvc.yaml: these stages wait for each other: {names}. One must read less than it does."
        ) from None
    except DvcException as error:
        raise ValueError(_chain(error)) from None
    finally:
        if repo is not None:
            repo.close()


def _open() -> "Repo":
    """The repository, which waits for its lock as long as it takes, and says so."""
    from dvc.lock import LockError
    from dvc.repo import Repo

    repo = Repo(".")
    try:
        with repo.lock:
            return repo
    except LockError:  # DVC has tried for 3 s
        repo.close()
        owner = Path(repo.lock.lockfile).read_text().strip() or "unknown"
        progress.say(f"Process {owner} has locked this workspace for DVC; waiting for it …")
        return Repo(".", _wait_for_lock=True)


def _chain(error: BaseException) -> str:
    """A DVC error with its causes, without the blank lines and links meant for its own console."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        parts += [text] if text and text not in parts else []
        cause = cause.__cause__
    return ": ".join(parts)
