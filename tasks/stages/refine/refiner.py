"""From what was chosen to what is there next: proposals asked for in waves, weighed, and put in place; a person's word comes first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tasks.core.records import (
    WRITTEN,
    Decision,
    Example,
    Lineage,
    Message,
    Signals,
    Unfit,
    content_id,
    excerpt,
    identify,
)
from tasks.stages.refine.accept import NO_SANDBOX, Gate
from tasks.stages.refine.ask import is_code
from tasks.stages.refine.propose import KEPT, SUBSTITUTES, Failed, Generator, Job, Proposal


@dataclass
class Refiner:
    """Works through jobs and keeps the book of what became of every proposal."""

    generator: Generator
    gate: Gate
    decisions: Mapping[str, Decision]
    round: int
    """What new examples are marked with."""
    lineage: list[Lineage] = field(default_factory=list)
    taken: dict[tuple[str, str], Example] = field(default_factory=dict)
    """By the id of the example and the operator."""
    heeded: set[str] = field(default_factory=set)
    """The ids, among those of the decisions, that turned up."""

    def work(self, jobs: Sequence[Job]) -> None:
        """Ask for one proposal of each job after the other, all jobs at once, until each has one or no more."""
        waiting, attempt = [job for job in jobs if self._is_open(job)], 0
        while waiting:
            found = [self._readable(one) for one in self.generator.propose(waiting, attempt)]
            proposals = [self._decided(one) for one in found if isinstance(one, Proposal)]
            verdicts = iter(zip(proposals, self.gate.weigh(proposals), strict=True))
            still_open = []
            for job, one in zip(waiting, found, strict=True):
                if isinstance(one, Failed):
                    self._enter_failure(one)
                elif one is not None and self._settle(*next(verdicts)):
                    continue
                if one is not None:
                    still_open.append(job)
            waiting, attempt = still_open, attempt + 1

    def _is_open(self, job: Job) -> bool:
        """Whether anything is to be proposed: what a person accepted stays, what was edited or rejected is settled, and a program
        that cannot be run is left as it is."""
        decision, stays = self._said_of(job.example.id), job.operator in SUBSTITUTES
        if decision and decision.decision == "accept" and stays:
            why = Unfit(KEPT, f"{decision.author}: {decision.reason}")
            self._enter_failure(Failed(job, decision.author, why))
        if decision and (decision.decision != "accept" or stays):
            return False
        if self.gate.judge is None and is_code(job.example):
            self._enter_failure(Failed(job, "nobody", NO_SANDBOX))
            return False
        return True

    def _said_of(self, name: str) -> Decision | None:
        """What a person decided of an example, a proposal, or an answer that makes none."""
        if name in self.decisions:
            self.heeded.add(name)
        return self.decisions.get(name)

    def _readable(self, one: Proposal | Failed | None) -> Proposal | Failed | None:
        """What a person wrote in place of an answer that makes no proposal; anything else as it is."""
        if not isinstance(one, Failed):
            return one
        decision = self.decisions.get(_id_of(one))
        if decision is None or decision.decision == "accept":
            return one  # there is nothing to accept
        self.heeded.add(_id_of(one))
        if decision.decision == "reject":
            return one
        job, author = one.job, f"{one.generator}, {decision.author}"
        new = answered(job.example, decision.text)
        return Proposal(new, job, author, (job.example.id,), one.prompt_hash, decision=decision)

    def _decided(self, proposal: Proposal) -> Proposal:
        """The proposal with what a person said of it, and as the person would have it."""
        decision = self._said_of(proposal.example.id)
        if decision is None:
            return proposal
        example = answered(proposal.example, decision.text) if decision.decision == "edit" else proposal.example
        return replace(
            proposal, example=example, generator=f"{proposal.generator}, {decision.author}", decision=decision
        )

    def _settle(self, proposal: Proposal, why: Unfit | None) -> bool:
        """Enter a proposal into the book, and take it where nothing speaks against it; whether it is taken."""
        operator, said = proposal.job.operator, proposal.decision
        example = replace(proposal.example, parents=list(proposal.parents), round=self.round)
        if why is None:
            self.taken[proposal.job.example.id, operator] = example
        reason, detail = (why.reason, why.detail) if why else (said.reason if said else "", "")
        self.lineage.append(
            Lineage(
                example.id, example.parents, operator, proposal.generator, proposal.prompt_hash, why is None, reason,
                excerpt(detail), excerpt(example.response, WRITTEN),
            )
        )  # fmt: skip
        return why is None

    def _enter_failure(self, failed: Failed) -> None:
        job = failed.job
        self.lineage.append(
            Lineage(
                _id_of(failed), [job.example.id], job.operator, failed.generator, failed.prompt_hash, False, failed.why.reason,
                excerpt(failed.why.detail), excerpt(failed.text, WRITTEN),
            )
        )  # fmt: skip

    # --- what people decided of examples -------------------------------------------------------------------------------------

    def decide(self, examples: Sequence[Example]) -> None:
        """Edit and reject the examples that people said so of. An edit of a program must pass its tests, as any proposal."""
        edits = []
        for example in examples:
            decision = self._said_of(example.id)
            if decision and decision.decision == "reject":
                self.taken[example.id, "reject"] = example
                self.lineage.append(_rejected(example, decision))
            elif decision and decision.decision == "edit":
                new = answered(example, decision.text)
                edits.append(Proposal(new, Job(example, "edit"), decision.author, (example.id,), decision=decision))
        for proposal, why in zip(edits, self.gate.weigh(edits), strict=True):
            self._settle(proposal, why)

    # --- the next round ------------------------------------------------------------------------------------------------------

    def merged(
        self, examples: Sequence[Example], signals: Sequence[Signals], keep_scale: Literal["paper", "exact"]
    ) -> list[Example]:
        """The examples of the next round: those that stay byte for byte and in their order, what stands in for others in their
        place, what was added at the end."""
        added = [new for example in examples if (new := self.taken.get((example.id, "extend")))]
        dropped: set[str] = set()
        if keep_scale == "exact":
            crowd = self._crowded(examples, signals)
            self._leave_out(added[len(crowd) :])
            added = added[: len(crowd)]
            dropped = {example.id for example in crowd[: len(added)]}
            self.lineage += [_dropped(example) for example in examples if example.id in dropped]
        kept = [new for example in examples if example.id not in dropped for new in self._in_place_of(example)]
        return [*kept, *added]

    def _in_place_of(self, example: Example) -> list[Example]:
        if (example.id, "reject") in self.taken:
            return []
        found = [self.taken[example.id, name] for name in ("edit", *SUBSTITUTES) if (example.id, name) in self.taken]
        return found or [example]

    def _crowded(self, examples: Sequence[Example], signals: Sequence[Signals]) -> list[Example]:
        """The examples that may make room, those with the nearest neighbours first."""
        touched = {name for name, _ in self.taken}
        chosen = {signal.example for signal in signals if signal.chosen}
        near = {signal.example: signal.neighbour_similarity for signal in signals}
        free = [
            e for e in examples if e.id not in touched | chosen | self.decisions.keys() and near.get(e.id) is not None
        ]
        return sorted(free, key=lambda example: (-(near[example.id] or 0.0), example.id))

    def _leave_out(self, examples: Sequence[Example]) -> None:
        """Take back what there is no room for."""
        out = {example.id for example in examples}
        self.taken = {
            key: example for key, example in self.taken.items() if key[1] != "extend" or example.id not in out
        }
        why = {"accepted": False, "reason": "no room", "detail": "too few examples may be dropped for it"}
        self.lineage = [replace(line, **why) if line.id in out and line.accepted else line for line in self.lineage]  # type: ignore[arg-type]


def _id_of(failed: Failed) -> str:
    return content_id(failed.job.example.id, failed.job.operator, failed.generator, failed.text)


def answered(example: Example, response: str) -> Example:
    """The example with another response."""
    messages = [*example.prompt, Message("assistant", response)]
    return replace(example, id=identify(messages, example.tests), messages=messages, weights=None)


def _rejected(example: Example, decision: Decision) -> Lineage:
    return Lineage(
        example.id,
        [example.id],
        "reject",
        decision.author,
        "",
        True,
        decision.reason,
        "",
        excerpt(example.response, WRITTEN),
    )


def _dropped(example: Example) -> Lineage:
    return Lineage(
        example.id, [example.id], "drop", "keep_scale", "", True, "", "room for a new example; it has the nearest neighbours",
        excerpt(example.response, WRITTEN),
    )  # fmt: skip
