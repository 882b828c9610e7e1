"""Promotion: the candidate before the gate, its place in history, and what follows from a decision."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from flows import history, versions, workspace
from flows.history import REFERENCE, Decision, History, Rollback
from tasks import settings
from tasks.core import gate
from tasks.core.gate import Bar, GateParams, Judgement
from tasks.core.records import Result
from tasks.io import progress, provenance, registry, tables

CANDIDATE = Path("models/candidate.json")
RESULTS = Path("data/gate")
UNCOVERED = 0.2
"""The share of the candidate's items that an earlier model may lack before it is measured anew."""


class Candidate(NamedTuple):
    """What stage `register` says would be promoted."""

    name: str
    hash: str
    paths: dict[str, Path]
    hashes: dict[str, str]
    reference: str

    @property
    def results(self) -> Path:
        """What it is worth on the gate set."""
        return RESULTS / f"{self.name}.parquet"


def promote() -> Decision:
    """The gate's decision on the present candidate, made now or, for one that was judged before, then.

    Raises ValueError where there is nothing to judge or nothing to judge by: then no look is spent.
    """
    with workspace.claimed():
        rules, found, past = settings.load().gate, candidate(), history_in_full()
        results = _results(found.name)
        held = set_hash(results)
        decision = past.decided(found.hash, held, rules)
        if decision:
            progress.say(f"Decided before, on {decision.time}: this candidate is version {decision.version}.")
        else:
            decision = _decide(found, results, held, rules, past)
        settle()
    return decision


def rollback(version: int, reason: str) -> None:
    """Put an earlier version back in place, or with `REFERENCE` none at all. Raises ValueError where it was never promoted or
    its files are not whole."""
    with workspace.claimed():
        past = history_in_full()
        if version not in (REFERENCE, *past.promoted):
            known = ", ".join(map(str, past.promoted)) or "none"
            raise ValueError(f"Version {version} was never promoted. These were: {known}.")
        if version != REFERENCE:
            versions.check(version, past.promoted[version].files)
        if past.champion != version:
            moved = Rollback(time=history.now(), version=version, left=past.champion, reason=reason, after=past.tail)
            versions.note(moved)
            history.append(moved)
        settle()


def history_in_full() -> History:
    """The history, with the lines that the store of versions holds and it does not: of a process that was killed between the two,
    or lines that git took away. Raises ValueError where they do not follow its last line.

    Without this the next candidate would get the number of one that was promoted, and meet fewer bars than there were.
    """
    past = history.read()
    while lost := missing(past):
        following = next((line for line in lost if line.after == past.tail), None)
        if following is None:
            raise ValueError(
                f"{history.HISTORY} lacks the {lost[0].kind} of {lost[0].time} (version {lost[0].version}), which {versions.FOLDER} "
                "holds: lines of it were lost. `git stash list`, `git reflog` and "
                f"`git log --all -- {history.HISTORY}` show where they went; put the file back."
            )
        history.append(following)
        progress.say(
            f"{history.HISTORY} lacked the {following.kind} of {following.time} (version {following.version}); it is put back."
        )
        past = history.read()
    return past


def missing(past: History) -> list[Decision | Rollback]:
    """The lines that the store of versions holds and the history does not."""
    return [line for line in versions.lines() if line not in past.lines]


def settle() -> None:
    """Let the champion's folder and MLflow's registry say what the history says."""
    past = history.read()
    versions.point(past.champion)
    if past.decisions:
        registry.mirror(_registered(past), _aliases(past))


def candidate() -> Candidate:
    """What would be promoted. Raises ValueError where it is missing, or no longer what was measured."""
    if not CANDIDATE.is_file():
        raise FileNotFoundError(f"{CANDIDATE} is missing. `ratchet run register` makes it.")
    card = json.loads(CANDIDATE.read_text(encoding="utf-8"))
    if card["candidate"] is None:
        raise ValueError(f"There is no candidate: {card['why']}.")
    paths = {kind: Path(file["path"]) for kind, file in card["files"].items()}
    hashes = {kind: str(file["hash"]) for kind, file in card["files"].items()}
    results = card["results"] if isinstance(card["results"], dict) else {}  # earlier ones had no base's
    expected: dict[Path, str | None] = {paths[kind]: hashes[kind] for kind in paths}
    expected |= {RESULTS / f"{name}.parquet": results.get(name) for name in (card["candidate"], card["reference"])}
    for path, digest in expected.items():
        if not path.exists() or provenance.digest(path) != digest:
            raise ValueError(
                f"{path} is not what {CANDIDATE} was written for. `ratchet run register` brings both up to date."
            )
    return Candidate(card["candidate"], card["hash"], paths, hashes, card["reference"])


def _decide(found: Candidate, results: Sequence[Result], held: str, rules: GateParams, past: History) -> Decision:
    bars = {REFERENCE: Bar(found.reference, _results(found.reference))}
    bars |= {number: _bar(number, past, results, held) for number in past.promoted}
    judgement = gate.judge(results, bars[past.champion], list(bars.values()), past.looks + 1, rules)
    decision = _line(found, judgement, held, rules, past)
    if decision.version in past.promoted:
        versions.note(decision)
    else:
        versions.keep(decision, found.results, found.paths if decision.verdict == "promoted" else {})
    # This is the promotion: from here on it is made up for where it is cut off (`history_in_full`), and the rest follows from it.
    history.append(decision)
    return decision


def _line(found: Candidate, judgement: Judgement, held: str, rules: GateParams, past: History) -> Decision:
    version = past.version_of(found.hash)
    return Decision(
        time=history.now(),
        version=version,
        verdict=judgement.verdict,
        reason=judgement.reason,
        candidate=found.hash,
        name=found.name,
        files=found.hashes,
        results=past.promoted[version].results if version in past.promoted else provenance.digest(found.results),
        champion=past.champion,
        look=judgement.look,
        level=judgement.level,
        gate=held,
        rules=rules,
        checks=[_evidence(check) for check in judgement.checks],
        commit=provenance.commit(),
        after=past.tail,
    )


def _evidence(check: gate.Check) -> dict[str, Any]:
    return asdict(check) | {"worse_by": check.worse_by.record() if check.worse_by else None}


def _results(name: str) -> list[Result]:
    """A model's results on the present gate set. Raises ValueError where there is no such set."""
    found = tables.read(RESULTS / f"{name}.parquet", Result)
    if not found:
        raise ValueError(
            "There is no gate set, so nothing is promoted: give it a share of the data (`gate: 0.1` in `ingest.splits` of "
            "params.yaml) and run again."
        )
    return found


def _bar(version: int, past: History, results: Sequence[Result], held: str) -> Bar:
    """A promoted version on the candidate's items: as it was measured then, or anew where the gate set has changed too much.

    Raises where the store has lost its results, or where its tokens are others: then nothing can be held against it.
    """
    bar = Bar(f"version {version}", tables.read(kept(version, past.promoted[version].results), Result))
    if gate.uncovered(results, bar) <= UNCOVERED:
        return bar
    files = past.promoted[version].files
    versions.check(version, files)
    anew = versions.place(version) / f"results-{held}.parquet"
    seal = anew.with_suffix(".sha256")
    if not (anew.is_file() and seal.is_file() and seal.read_text() == provenance.digest(anew)):
        progress.say(f"The gate set is another than version {version} was measured on: measuring it anew.")
        _measure(version, files, anew)
        workspace.replace(seal, provenance.digest(anew))
    bar = Bar(bar.name, tables.read(anew, Result))
    if gate.uncovered(results, bar) > UNCOVERED:
        raise ValueError(
            f"The candidate and {bar.name} do not have the same tokens, and nats per token compare only under one tokenizer. Give "
            "the candidate the tokenizer of what was promoted; for another one, begin a workspace of its own."
        )
    return bar


def _measure(version: int, files: Mapping[str, str], output: Path) -> None:
    """Write the results of a version on the present gate set, in a process of its own: this one knows no torch."""
    model = versions.place(version) / "model"
    base = model.with_name("base") if "base" in files else model
    done = subprocess.run([sys.executable, "-m", "tasks.exam", str(model), str(base), str(output)], check=False)
    if done.returncode:
        raise RuntimeError(f"Version {version} could not be measured; the lines above say why.")


def kept(version: int, digest: str) -> Path:
    """The file with the results of a promoted version. Raises where the store lost it or it is not what was judged."""
    path = versions.place(version) / versions.RESULTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: what version {version} was worth is not known here, so nothing can be held against it. Copy "
            "models/versions/ from where it was promoted."
        )
    if provenance.digest(path) != digest:
        raise ValueError(
            f"{path} is not what version {version} was judged by, so nothing can be held against it. Copy the file from where it "
            "was promoted, or from the copy of models/versions/ that you keep."
        )
    return path


def set_hash(results: Sequence[Result]) -> str:
    """What the gate set held, by hash: its items, and their sizes under the candidate's tokenizer."""
    items = sorted(f"{row.measure} {row.item} {row.tokens}" for row in results)
    return provenance.facts_digest(dict.fromkeys(items, ""))[:16]


def _registered(past: History) -> list[registry.Version]:
    latest = {line.version: line for line in past.decisions}
    return [
        registry.Version(
            number, line.candidate, f"{line.verdict}: {line.reason}", {"verdict": line.verdict, "name": line.name}
        )
        for number, line in sorted(latest.items())
    ]


def _aliases(past: History) -> dict[str, int]:
    champion = {"champion": past.champion} if past.champion != REFERENCE else {}
    last = past.decisions[-1].version
    return champion | ({"challenger": last} if last != past.champion else {})
