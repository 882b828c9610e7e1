"""Work through the jobs of a round in waves of proposals, apply review decisions, and assemble the next round's examples."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from tasks.core.records import WRITTEN, Decision, Example, Lineage, Signals, Unfit, content_id
from tasks.core.text.visible import excerpt
from tasks.stages.refine.acceptance.acceptor import Acceptor
from tasks.stages.refine.acceptance.program_checks import NO_SANDBOX
from tasks.stages.refine.example_text import is_code, with_response
from tasks.stages.refine.proposals import KEPT, REPLACING, Failed, Generator, Job, Proposal

CALL = Unfit("tool call", "its answer calls a tool, which a text would not")


@dataclass
class Refiner:
    """Works through jobs and records the lineage of every proposal."""

    generator: Generator | None
    """None if there are no jobs; then only a person's decisions are applied."""
    acceptor: Acceptor
    decisions: Mapping[str, Decision]
    round: int
    """The number of the round, stored with new examples."""
    flagged: Set[str] = frozenset()
    """The ids of examples that a person flagged, which are not dropped for added ones."""
    lineage: list[Lineage] = field(default_factory=list)
    accepted: dict[tuple[str, str], Example] = field(default_factory=dict)
    """(Id of the parent, operator) → accepted example."""
    matched_decisions: set[str] = field(default_factory=set)
    """The ids of the decisions that are about an example or proposal of this round."""

    def propose_and_accept(self, jobs: Sequence[Job]) -> None:
        """Make proposals for all jobs in waves, one for each open job, until one is accepted or there are no more."""
        waiting, attempt = [job for job in jobs if self._is_open(job)], 0
        while waiting:
            assert self.generator, "jobs need a generator"
            proposed = [self._readable(result) for result in self.generator.propose(waiting, attempt)]
            proposals = [self._with_decision(result) for result in proposed if isinstance(result, Proposal)]
            rejections = iter(zip(proposals, self.acceptor.accept_or_reject(proposals), strict=True))
            still_open = []
            for job, result in zip(waiting, proposed, strict=True):
                if isinstance(result, Failed):
                    self._record_failure(result)
                elif result is not None and self._record(*next(rejections)):
                    continue
                if result is not None:
                    still_open.append(job)
            waiting, attempt = still_open, attempt + 1

    def _is_open(self, job: Job) -> bool:
        """Return True if proposals should be made for the job.

        None are made if a person accepted, edited or rejected the example, if its answer cannot be replaced, or if it is a program and there
        is no sandbox.
        """
        decision, replaces = self._decision_on(job.example.id), job.operator in REPLACING
        if decision and decision.decision == "accept" and replaces:
            why = Unfit(KEPT, f"{decision.author}: {decision.reason}")
            self._record_failure(Failed(job, decision.author, why))
        if decision and (decision.decision != "accept" or replaces):
            return False
        if unfit := _bound(job.example):
            self._record_failure(Failed(job, "nobody", unfit))
            return False
        if self.acceptor.run_programs is None and is_code(job.example):
            self._record_failure(Failed(job, "nobody", NO_SANDBOX))
            return False
        return True

    def _decision_on(self, identity: str) -> Decision | None:
        """Return the review decision on an example, a proposal or a failed answer, and mark it as matched."""
        if identity in self.decisions:
            self.matched_decisions.add(identity)
        return self.decisions.get(identity)

    def _readable(self, result: Proposal | Failed | None) -> Proposal | Failed | None:
        """Return, for a failed answer that a person edited, a proposal with the edit; any other result unchanged."""
        if not isinstance(result, Failed):
            return result
        decision = self.decisions.get(_id_of(result))
        if decision is None or decision.decision == "accept":
            return result  # there is nothing to accept
        self.matched_decisions.add(_id_of(result))
        if decision.decision == "reject":
            return result
        job, author = result.job, f"{result.generator}, {decision.author}"
        new = with_response(job.example, decision.text)
        return Proposal(new, job, author, (job.example.id,), result.prompt_hash, decision=decision)

    def _with_decision(self, proposal: Proposal) -> Proposal:
        """Return the proposal with the review decision on it, edited if the decision is an edit."""
        decision = self._decision_on(proposal.example.id)
        if decision is None:
            return proposal
        example = with_response(proposal.example, decision.text) if decision.decision == "edit" else proposal.example
        return replace(
            proposal, example=example, generator=f"{proposal.generator}, {decision.author}", decision=decision
        )

    def _record(self, proposal: Proposal, why: Unfit | None) -> bool:
        """Add a proposal to the lineage, keep it unless `why` rejects it, and return True if it is kept."""
        operator, decision = proposal.job.operator, proposal.decision
        example = replace(proposal.example, parents=list(proposal.parents), round=self.round)
        if why is None:
            self.accepted[proposal.job.example.id, operator] = example
        proposed = decision.id if decision and decision.id != example.id else ""
        reason, detail = (why.reason, why.detail) if why else (decision.reason if decision else "", "")
        self.lineage.append(
            Lineage(
                example.id, example.parents, operator, proposal.generator, proposal.prompt_hash, why is None, reason,
                excerpt(detail), excerpt(example.response, WRITTEN), proposed,
            )
        )  # fmt: skip
        return why is None

    def _record_failure(self, failed: Failed) -> None:
        """Add a failure to the lineage, without a response, since its text may be a prompt or a draft and not an answer."""
        job = failed.job
        detail = f"{failed.why.detail}: {failed.text}" if failed.text else failed.why.detail
        self.lineage.append(
            Lineage(
                _id_of(failed), [job.example.id], job.operator, failed.generator, failed.prompt_hash, False, failed.why.reason,
                excerpt(detail), "",
            )
        )  # fmt: skip

    def apply_decisions(self, examples: Sequence[Example]) -> None:
        """Apply the review decisions that edit or reject examples. An edited program must pass its tests, like any proposal."""
        edits = []
        for example in examples:
            decision = self._decision_on(example.id)
            if decision and decision.decision == "reject":
                self.accepted[example.id, "reject"] = example
                self.lineage.append(_rejected(example, decision))
            elif decision and decision.decision == "edit":
                judged = replace(example, desirable=True) if example.desirable is False else example
                # The undesirable answer is replaced, so its judgement no longer holds.
                new = with_response(judged, decision.text)
                edit = Proposal(new, Job(example, "edit"), decision.author, (example.id,), decision=decision)
                if example.messages[-1].tool_calls:
                    self._record(edit, CALL)
                else:
                    edits.append(edit)
        for edit, why in zip(edits, self.acceptor.accept_or_reject(edits), strict=True):
            self._record(edit, why)

    def next_round(
        self, examples: Sequence[Example], signals: Sequence[Signals], keep_scale: Literal["paper", "exact"]
    ) -> list[Example]:
        """Return the examples of the next round: unchanged ones and replacements in their order, then added ones."""
        added = [new for example in examples if (new := self.accepted.get((example.id, "extend")))]
        dropped: set[str] = set()
        if keep_scale == "exact":
            droppable = self._droppable(examples, signals)
            self._withdraw(added[len(droppable) :])
            added = added[: len(droppable)]
            dropped = {example.id for example in droppable[: len(added)]}
            self.lineage += [_dropped(example) for example in examples if example.id in dropped]
        kept = [new for example in examples if example.id not in dropped for new in self._replacements(example)]
        return [*kept, *added]

    def _replacements(self, example: Example) -> list[Example]:
        accepted = self.accepted
        if (example.id, "reject") in accepted:
            return []
        new = [accepted[example.id, name] for name in ("edit", *REPLACING) if (example.id, name) in accepted]
        return new or [example]

    def _droppable(self, examples: Sequence[Example], signals: Sequence[Signals]) -> list[Example]:
        """Return the examples that may be dropped for added ones, those with the nearest neighbours first."""
        changed = {identity for identity, _ in self.accepted}
        chosen = {signal.example for signal in signals if signal.chosen}
        fixed = changed | chosen | self.decisions.keys() | self.flagged
        similarity = {signal.example: signal.neighbour_similarity for signal in signals}
        droppable = [e for e in examples if e.id not in fixed and similarity.get(e.id) is not None]
        return sorted(droppable, key=lambda example: (-(similarity[example.id] or 0.0), example.id))

    def _withdraw(self, examples: Sequence[Example]) -> None:
        """Withdraw accepted proposals for which no example may be dropped."""
        withdrawn = {example.id for example in examples}
        self.accepted = {
            key: example for key, example in self.accepted.items() if key[1] != "extend" or example.id not in withdrawn
        }
        self.lineage = [_withdrawn(line) if line.id in withdrawn and line.accepted else line for line in self.lineage]


def _id_of(failed: Failed) -> str:
    return content_id(failed.job.example.id, failed.job.operator, failed.generator, failed.text)


def _withdrawn(line: Lineage) -> Lineage:
    return replace(line, accepted=False, reason="no room", detail="too few examples may be dropped for it")


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


def _bound(example: Example) -> Unfit | None:
    """Return the reason if the answer of an example cannot be replaced by another text."""
    if example.messages[-1].tool_calls:
        return CALL
    if example.rejected is not None or example.desirable is not None:
        return Unfit("judged answer", "a person judged this very answer")
    return None
