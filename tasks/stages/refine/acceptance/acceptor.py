"""Accept or reject proposals: cheap checks of the text first, then tests and contamination, then checks that need a model."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from tasks.core.records import Example, Unfit
from tasks.core.text.contamination import overlaps, sides
from tasks.core.text.visible import excerpt
from tasks.core.text.writing import Write
from tasks.stages.refine.acceptance.model_checks import Embed, check_similarity, check_with_judge
from tasks.stages.refine.acceptance.program_checks import RunPrograms, check_answer, check_programs
from tasks.stages.refine.acceptance.text_checks import check_foreign_content, check_length, check_protected_text
from tasks.stages.refine.config import Acceptance
from tasks.stages.refine.example_text import normalized, prompt_key
from tasks.stages.refine.proposals import Proposal

DUPLICATE = Unfit("double", "another example says the same")
REPEATED = 3
"""Largest number of proposals in one attempt that may have the same new answer. This rule is ours, not Middo's."""


@dataclass(frozen=True)
class Acceptor:
    """Compares proposals with their parents, with all other examples and evaluation data, and with their tests."""

    config: Acceptance
    examples: Sequence[Example]
    """The examples of the previous round."""
    evaluation: Sequence[str]
    """Every text on which models are evaluated."""
    is_plain: Callable[[Example], bool]
    """False for an example that spells a control token of the model."""
    run_programs: RunPrograms | None
    """The sandbox, if this machine has one."""
    score_answer: Callable[[Example], float]
    """The verifier of puzzles."""
    embed: Embed | None = None
    ask_judge: Write | None = None
    evaluation_prompts: Set[str] = frozenset()
    """The prompts on which models are evaluated (`prompt_key`). A prompt of a few words is not found as an overlap, but must not be trained on
    either."""
    known_texts: set[str] = field(default_factory=set)
    """The normalised texts of the examples and of accepted proposals."""

    def __post_init__(self) -> None:
        self.known_texts.update(map(normalized, self.examples))

    def accept_or_reject(self, proposals: Sequence[Proposal]) -> list[Unfit | None]:
        """Return, for each proposal in order, None if it is accepted, else the reason. Of equal proposals the first is accepted."""
        rejections: list[Unfit | None] = [self._check_text(proposal) for proposal in proposals]
        for check in (
            self._check_repeated,
            self._check_programs,
            self._check_contamination,
            self._check_similarity,
            self._check_with_judge,
        ):
            remaining = [position for position, rejection in enumerate(rejections) if rejection is None]
            checked = check([proposals[position] for position in remaining])
            for position, rejection in zip(remaining, checked, strict=True):
                rejections[position] = rejection
        return [
            rejection or (None if _lays_out(proposal) else self._check_duplicate(proposal.example))
            for proposal, rejection in zip(proposals, rejections, strict=True)
        ]

    def accept_or_reject_new(self, examples: Sequence[Example]) -> list[Unfit | None]:
        """Return, for each new example without a parent, None if it is accepted, else the reason."""
        overlapping = self._check_overlap(examples)
        return [
            self._check_itself(example)
            or check_answer(example, self.score_answer)
            or overlap
            or self._check_duplicate(example)
            for example, overlap in zip(examples, overlapping, strict=True)
        ]

    def _check_text(self, proposal: Proposal) -> Unfit | None:
        """Check the text alone. A person's decision overrides the checks of length, links and protected text."""
        decision = proposal.decision
        if decision and decision.decision == "reject":
            return Unfit("rejected", f"{decision.author}: {decision.reason}")
        is_new_layout = _lays_out(proposal)
        if normalized(proposal.example) == normalized(proposal.job.example) and not is_new_layout:
            return Unfit("unchanged", "it says what the example says")
        if (unfit := self._check_itself(proposal.example, may_be_known=is_new_layout)) or decision:
            return unfit
        return (
            check_length(proposal, self.config)
            or check_protected_text(proposal, self.config)
            or check_foreign_content(proposal)
        )

    def _check_itself(self, example: Example, *, may_be_known: bool = False) -> Unfit | None:
        """Check an example without comparing it with its parent."""
        if not example.response.strip() or not example.prompt[-1].content.strip():
            return Unfit("empty", "prompt or response is empty")
        if normalized(example) in self.known_texts and not may_be_known:
            return DUPLICATE
        if not self.is_plain(example):
            return Unfit("control token", "it spells a token of the model that parts turns")
        return None

    def _check_repeated(self, proposals: Sequence[Proposal]) -> Iterable[Unfit | None]:
        """Reject an answer that more than `REPEATED` proposals share and no example has, unless tests or a person judge it."""
        return _checked_texts(
            proposals, lambda texts: _repeated(texts, {_answer(example) for example in self.examples})
        )

    def _check_programs(self, proposals: Sequence[Proposal]) -> Iterable[Unfit | None]:
        return check_programs(proposals, self.run_programs, self.score_answer)

    def _check_contamination(self, proposals: Sequence[Proposal]) -> Iterable[Unfit | None]:
        return self._check_overlap([proposal.example for proposal in proposals])

    def _check_overlap(self, examples: Sequence[Example]) -> list[Unfit | None]:
        """Reject examples that overlap an evaluation text. N-grams that many examples of the round share do not count."""
        if not examples or not self.evaluation:
            return [None] * len(examples)
        known = sides(self.examples)
        overlapping = overlaps([*known, *sides(examples)], self.evaluation, self.config.contamination, known=len(known))
        leaks = {
            (side - len(known)) % len(examples): excerpt(self.evaluation[text], 80)
            for side, text in overlapping.items()
            if side >= len(known)
        }
        leaks |= {at: excerpt(prompt, 80) for at, prompt in enumerate(self._leaked_prompts(examples)) if prompt}
        positions = range(len(examples))
        return [Unfit("contaminated", f"overlaps {leaks[at]!r}") if at in leaks else None for at in positions]

    def _leaked_prompts(self, examples: Sequence[Example]) -> list[str]:
        """Return for each example its prompt if models are evaluated on it, else an empty text.

        A prompt that an example of the round already has does not count.
        """
        prompts = [prompt_key(example) for example in examples]
        leaked = self.evaluation_prompts & set(prompts)
        if leaked:
            leaked -= {prompt_key(example) for example in self.examples}
        return [prompt if prompt in leaked else "" for prompt in prompts]

    def _check_similarity(self, proposals: Sequence[Proposal]) -> Iterable[Unfit | None]:
        embed, least = self.embed, self.config.likeness
        if embed is None or least is None:
            return [None] * len(proposals)
        return _checked_texts(proposals, lambda texts: check_similarity(texts, embed, least))

    def _check_with_judge(self, proposals: Sequence[Proposal]) -> Iterable[Unfit | None]:
        judge, ask_judge = self.config.judge, self.ask_judge
        if judge is None or ask_judge is None:
            return [None] * len(proposals)
        return _checked_texts(proposals, lambda texts: check_with_judge(texts, ask_judge, judge.least))

    def _check_duplicate(self, example: Example) -> Unfit | None:
        text = normalized(example)
        if text in self.known_texts:
            return DUPLICATE
        self.known_texts.add(text)
        return None


def _lays_out(proposal: Proposal) -> bool:
    """Return True if a person changed only the line breaks of an example. The same change by a generator counts as no change."""
    old, new = proposal.job.example, proposal.example
    is_edit = proposal.decision is not None and proposal.decision.decision == "edit"
    return is_edit and normalized(old) == normalized(new) and _lines(old) != _lines(new)


def _lines(example: Example) -> list[str]:
    return [line.rstrip() for line in example.response.strip().splitlines()]


def _answer(example: Example) -> str:
    return " ".join(example.response.split())


def _repeated(proposals: Sequence[Proposal], known: set[str]) -> list[Unfit | None]:
    """Return for each proposal None, or a rejection if more than `REPEATED` proposals have its answer and `known` does not contain it."""
    answers = [_answer(proposal.example) for proposal in proposals]
    counts = Counter(answer for answer in answers if answer not in known)
    return [
        Unfit("repeated", f"{counts[answer]} proposals have this answer") if counts[answer] > REPEATED else None
        for answer in answers
    ]


def _checked_texts(
    proposals: Sequence[Proposal], check: Callable[[Sequence[Proposal]], Iterable[Unfit | None]]
) -> list[Unfit | None]:
    """Return the results of a check on the proposals that neither tests nor a person judge, and None for the others."""
    are_texts = [proposal.example.tests is None and proposal.decision is None for proposal in proposals]
    texts = [proposal for proposal, is_text in zip(proposals, are_texts, strict=True) if is_text]
    checked = iter(check(texts) if texts else ())
    return [next(checked) if is_text else None for is_text in are_texts]
