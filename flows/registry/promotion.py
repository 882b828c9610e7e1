"""Judge the candidate by the gate, record the decision, and let the champion's folder and MLflow's registry follow it."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from flows.execution import workspace_lease
from flows.registry import history, versions
from flows.registry.evidence import bundle, layout, subject
from flows.registry.history import REFERENCE, Approval, History, PromotionDecision, Rollback
from tasks import configuration
from tasks.core.promotion import gate
from tasks.core.promotion.gate import Bar, GateConfig, Judgement
from tasks.core.records import CONDITIONS, Result
from tasks.io import config_file, provenance, tables
from tasks.io.runs import registry
from tasks.io.system import files, git, progress

CANDIDATE = Path("models/candidate.json")
RESULTS = Path("data/gate")
UNCOVERED = 0.2
"""Share of the candidate's items that an earlier model's results may lack before the model is measured again."""


class Candidate(NamedTuple):
    """The model that stage `register` offers for promotion."""

    name: str
    hash: str
    paths: dict[str, Path]
    hashes: dict[str, str]
    reference: str

    @property
    def results(self) -> Path:
        """The file with its results on the gate set."""
        return RESULTS / f"{self.name}.parquet"


Approve = Callable[[PromotionDecision], Approval]
"""Returns a person's answer to a decision that promotes."""


def promote(approve: Approve | None = None) -> PromotionDecision:
    """Return the decision on the present candidate; a candidate that was judged before keeps its decision.

    `approve` asks a person where `gate.approval` wants one; others may work in the workspace meanwhile. Raises ValueError if there is
    nothing to judge or nothing to judge by, if nobody can be asked, or if the candidate is another one when the answer comes: then no look
    is spent.
    """
    decision = judge()
    if not decision.is_open:
        return decision.line
    if approve is None:
        raise ValueError(
            f"The gate would promote {decision.line.name}, and `gate.approval: ask` needs a person's approval. `ratchet approve` gives it."
        )
    return settle(decision.line, approve(decision.line))


class GateDecision(NamedTuple):
    """The decision of the gate on the present candidate."""

    line: PromotionDecision
    is_open: bool
    """True if the decision is not recorded yet, because a person has to approve it."""


def judge() -> GateDecision:
    """Return the gate's decision, recorded and acted upon unless a person has to approve it. Raises the errors of `promote`.

    The candidate's files are read again: one that changed and kept its size and time would pass by its remembered digest.
    """
    with workspace_lease.acquired():
        provenance.forget_digests()
        rules, candidate, past = configuration.load().gate, load_candidate(), complete_history()
        decision = _decided_before(candidate, rules, past)
        if decision is None:
            decision = _decide(candidate, rules, past)
            if decision.verdict == "promoted" and rules.approval == "ask":
                return GateDecision(decision, is_open=True)
            _record(decision, candidate, past)
        apply_history()
    return GateDecision(decision, is_open=False)


def settle(decision: PromotionDecision, approval: Approval) -> PromotionDecision:
    """Record a decision with a person's answer, act upon it, and return it; if the candidate was decided meanwhile, return that decision.

    Raises ValueError if anything else has changed since it was made.
    """
    with workspace_lease.acquired():
        provenance.forget_digests()
        rules, candidate, past = configuration.load().gate, load_candidate(), complete_history()
        if candidate.hash == decision.candidate and (earlier := _decided_before(candidate, rules, past)):
            apply_history()
            return earlier
        if (candidate.hash, past.tail) != (decision.candidate, decision.after) or (
            decision.content != _decide(candidate, rules, past).content
        ):
            raise ValueError(
                f"The answer is about {decision.name} as it was judged on {decision.time}, and the candidate, its results, the champion or "
                "the gate's settings have changed since. `ratchet promote` judges what there is now."
            )
        decision = decision.answered(approval).model_copy(update={"time": history.now()})
        _record(decision, candidate, past)
        apply_history()
    return decision


def rollback(version: int, reason: str) -> None:
    """Put an earlier version back in place, or with `REFERENCE` none at all.

    Raises ValueError if it was never promoted or its files are not complete.
    """
    config_file.check_present(configuration.PARAMS)  # a rollback does not need valid settings
    with workspace_lease.acquired():
        provenance.forget_digests()
        past = complete_history()
        if version not in (REFERENCE, *past.promoted):
            known = ", ".join(map(str, past.promoted)) or "none"
            raise ValueError(f"Version {version} was never promoted. These were: {known}.")
        if version != REFERENCE:
            versions.check_files(version, past.promoted[version].files)
        if past.champion != version:
            line = Rollback(time=history.now(), version=version, left=past.champion, reason=reason, after=past.tail)
            versions.store_line(line)
            history.append(line)
        apply_history()


def complete_history() -> History:
    """Return the history, after restoring lines that only the store of versions holds.

    Such lines are those of a process that was killed between the two, and those that git took away. Raises ValueError if they do not follow
    the last line. Without this the next candidate would get the number of one that was promoted, and meet fewer bars than there were.
    """
    past = history.read()
    while lost := missing_lines(past):
        following = next((line for line in lost if line.after == past.tail), None)
        if following is None:
            raise ValueError(
                f"{history.HISTORY} lacks the {lost[0].kind} of {lost[0].time} (version {lost[0].version}), which {versions.FOLDER} "
                "holds: lines were lost. `git stash list`, `git reflog` and "
                f"`git log --all -- {history.HISTORY}` may have them; restore the file."
            )
        history.append(following)
        progress.say(
            f"{history.HISTORY} lacked the {following.kind} of {following.time} (version {following.version}); it is restored."
        )
        past = history.read()
    return past


def missing_lines(past: History) -> list[PromotionDecision | Rollback]:
    """Return the lines that the store of versions holds and the history lacks."""
    return [line for line in versions.lines() if line not in past.lines]


def apply_history() -> None:
    """Set the champion's link and MLflow's registry according to the history."""
    past = history.read()
    versions.set_champion(past.champion)
    if past.decisions:
        registry.mirror(_registered(past), _aliases(past))
    if (
        past.champion != REFERENCE
        and not (layout.FOLDER / str(past.champion)).is_dir()
        and subject.is_present(past.champion)
    ):
        _write_evidence(past.champion)


def _write_evidence(version: int) -> None:
    """Write the evidence of a version. A failure to write it does not stop the promotion."""
    try:
        folder = bundle.write(str(version))
    except (ValueError, OSError) as error:
        progress.say(f"There is no evidence of version {version}: {error}")
    else:
        progress.say(f"{folder} has the evidence of version {version}, which others can verify.")


def load_candidate() -> Candidate:
    """Return the candidate. Raises FileNotFoundError without its card, ValueError if the card names none or files have changed."""
    if not CANDIDATE.is_file():
        raise FileNotFoundError(f"{CANDIDATE} is missing. `ratchet run register` makes it.")
    card = json.loads(CANDIDATE.read_text(encoding="utf-8"))
    if card["candidate"] is None:
        raise ValueError(f"There is no candidate: {card['why']}.")
    paths = {kind: Path(file["path"]) for kind, file in card["files"].items()}
    hashes = {kind: str(file["hash"]) for kind, file in card["files"].items()}
    results = card["results"] if isinstance(card["results"], dict) else {}  # older cards lack the base's
    expected: dict[Path, str | None] = {paths[kind]: hashes[kind] for kind in paths}
    expected |= {RESULTS / f"{name}.parquet": results.get(name) for name in (card["candidate"], card["reference"])}
    for path, digest in expected.items():
        if not path.exists() or provenance.digest(path) != digest:
            raise ValueError(
                f"{path} is not what {CANDIDATE} was written for. `ratchet run register` brings both up to date."
            )
    return Candidate(card["candidate"], card["hash"], paths, hashes, card["reference"])


def _decided_before(candidate: Candidate, rules: GateConfig, past: History) -> PromotionDecision | None:
    decision = past.decided(candidate.hash, gate_set_hash(candidate.results), rules)
    if decision:
        progress.say(f"Decided before, on {decision.time}: this candidate is version {decision.version}.")
    return decision


def _decide(candidate: Candidate, rules: GateConfig, past: History) -> PromotionDecision:
    results, gate_hash = _results(candidate.name), gate_set_hash(candidate.results)
    reference = RESULTS / f"{candidate.reference}.parquet"
    if conditions(reference) != conditions(candidate.results):
        raise ValueError(
            f"{reference} and {candidate.results} were measured under different settings of `evaluate`, or in different precisions. "
            "`ratchet run` measures both again; if `compute.precision: auto` chose two, name one first."
        )
    bars = {REFERENCE: Bar(candidate.reference, _results(candidate.reference))}
    bars |= {number: _bar(number, past, candidate.results, gate_hash) for number in past.promoted}
    judgement = gate.judge(results, bars[past.champion], list(bars.values()), past.looks + 1, rules)
    return _line(candidate, judgement, gate_hash, rules, past)


def _record(decision: PromotionDecision, candidate: Candidate, past: History) -> None:
    """Store the version, and write the history line of the promotion or refusal."""
    if decision.version in past.promoted:
        versions.store_line(decision)
    else:
        versions.store(decision, candidate.results, candidate.paths if decision.verdict == "promoted" else {})
    # The line is what counts as the promotion. If this is cut off, `complete_history` writes it later, and the rest follows.
    history.append(decision)


def _line(
    candidate: Candidate, judgement: Judgement, gate_hash: str, rules: GateConfig, past: History
) -> PromotionDecision:
    version = past.version_of(candidate.hash)
    return PromotionDecision(
        time=history.now(),
        version=version,
        verdict=judgement.verdict,
        reason=judgement.reason,
        candidate=candidate.hash,
        name=candidate.name,
        files=candidate.hashes,
        results=past.promoted[version].results if version in past.promoted else provenance.digest(candidate.results),
        champion=past.champion,
        look=judgement.look,
        level=judgement.level,
        gate=gate_hash,
        rules=rules,
        checks=[_evidence(check) for check in judgement.checks],
        commit=git.commit(),
        after=past.tail,
    )


def _evidence(check: gate.Check) -> dict[str, Any]:
    return asdict(check) | {"worse_by": check.worse_by.record() if check.worse_by else None}


def _results(name: str) -> list[Result]:
    """Return a model's results on the present gate set. Raises ValueError if there is no such set."""
    results = tables.read(RESULTS / f"{name}.parquet", Result)
    if not results:
        raise ValueError(
            "There is no gate set, so nothing is promoted: give it a share of the data (`gate: 0.1` in `ingest.splits` of "
            "params.yaml) and run again."
        )
    return results


def _bar(version: int, past: History, candidate: Path, gate_hash: str) -> Bar:
    """Return a promoted version's results on the items of the candidate's results: as measured then, or measured
    again if the gate set has changed too much, or models are now measured in another way.

    Raises if the store has lost the results, if their tokenization differs, or if params.yaml no longer measures as the candidate was
    measured. In these cases no candidate can be compared with that version.
    """
    results, stored = tables.read(candidate, Result), stored_results(version, past.promoted[version].results)
    bar = Bar(f"version {version}", tables.read(stored, Result))
    wanted = conditions(candidate)
    is_measured_alike = conditions(stored) == wanted
    if is_measured_alike and gate.uncovered(results, bar) <= UNCOVERED:
        return bar
    digests = past.promoted[version].files
    versions.check_files(version, digests)
    anew = versions.folder(version) / f"results-{gate_hash}.parquet"
    seal = anew.with_suffix(".sha256")
    is_sealed = anew.is_file() and seal.is_file() and seal.read_text() == provenance.digest(anew)
    if not is_sealed or conditions(anew) != wanted:  # earlier releases used the settings of that day
        what = "gate set is another" if is_measured_alike else "settings of `evaluate` are others"
        progress.say(f"The {what} than version {version} was measured by: measuring it again.")
        _measure(version, digests, anew, wanted)
        files.write_atomically(seal, provenance.digest(anew))
    bar = Bar(bar.name, tables.read(anew, Result))
    if gate.uncovered(results, bar) > UNCOVERED:
        raise ValueError(
            f"The candidate and {bar.name} do not have the same tokens, and losses in nats per token are comparable only under "
            "one tokenizer. Give the candidate the tokenizer of the promoted model; for another tokenizer, start a new workspace."
        )
    return bar


def _measure(version: int, digests: Mapping[str, str], output: Path, conditions: str) -> None:
    """Write the results of a version on the present gate set, measured as `conditions` says, in a separate process, since flows do not
    import torch."""
    model = versions.folder(version) / "model"
    base = model.with_name("base") if "base" in digests else model
    command = [sys.executable, "-m", "tasks.gate_eval", str(model), str(base), str(output), conditions]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"Version {version} could not be measured; the lines above say why.")


def stored_results(version: int, digest: str) -> Path:
    """Return the file with the results of a promoted version. Raises if it is missing or not the one that was judged."""
    path = versions.folder(version) / versions.RESULTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the results of version {version} are not here, so no candidate can be compared with it. Copy "
            "models/versions/ from where it was promoted."
        )
    if provenance.digest(path) != digest:
        raise ValueError(
            f"{path} is not what version {version} was judged by, so no candidate can be compared with it. Copy the file from where it "
            "was promoted, or from the copy of models/versions/ that you keep."
        )
    return path


def gate_set_hash(results: Path) -> str:
    """Return a hash of the gate set from the results of a candidate: its items, their sizes under the candidate's tokenizer, and the
    settings under which they are measured."""
    items = sorted(f"{row.measure} {row.item} {row.tokens}" for row in tables.read(results, Result))
    facts = {CONDITIONS: digest} if (digest := conditions(results)) else {}
    return provenance.facts_digest(dict.fromkeys(items, "") | facts)[:16]


def conditions(results: Path) -> str:
    """Return the digest of the settings under which results were measured; empty for results of earlier releases."""
    return tables.facts_of(results).get(CONDITIONS, "")


def _registered(past: History) -> list[registry.Version]:
    latest = {line.version: line for line in past.decisions}
    return [
        registry.Version(
            number,
            line.candidate,
            f"{line.verdict}: {line.reason}",
            {"verdict": line.verdict, "name": line.name},
            versions.folder(number),
        )
        for number, line in sorted(latest.items())
    ]


def _aliases(past: History) -> dict[str, int]:
    champion = {"champion": past.champion} if past.champion != REFERENCE else {}
    last = past.decisions[-1].version
    return champion | ({"challenger": last} if last != past.champion else {})
