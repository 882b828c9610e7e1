"""Which proposals are taken. The cheap questions come first, then the tests, then what needs a model."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.core.contamination import overlaps, sides
from tasks.core.programs import program
from tasks.core.records import Example, Unfit, excerpt
from tasks.core.writing import Write
from tasks.io.sandbox import Case, Verdict
from tasks.stages.refine import ask
from tasks.stages.refine.ask import as_text, is_code
from tasks.stages.refine.params import Acceptance
from tasks.stages.refine.propose import Proposal

LINK = re.compile(r"\b(?:https?|ftp|file|data|javascript):\S+|\bwww\.\S+", re.IGNORECASE)
NO_SANDBOX = Unfit("no sandbox", "programs are not run on this machine; `ratchet doctor` says what would do")
RUNS = 2
"""So many runs of a program decide whether its tests always say the same of it."""


@dataclass(frozen=True)
class Gate:
    """Holds proposals against what they were made from, against everything that is there, and against their tests."""

    params: Acceptance
    examples: Sequence[Example]
    """What the round began with."""
    evaluation: Sequence[str]
    """Every text that models are evaluated by."""
    is_plain: Callable[[Example], bool]
    """Whether it spells no control token of the model."""
    judge: Callable[[Iterable[Case]], Iterator[Verdict]] | None
    """The sandbox, where this machine has one."""
    score: Callable[[Example], float]
    """What a puzzle's verifier says of its response."""
    embed: Callable[[Sequence[str]], NDArray[np.float32]] | None = None
    ask_judge: Write | None = None
    said: set[str] = field(default_factory=set)
    """What the examples say, and the proposals that were taken."""

    def __post_init__(self) -> None:
        self.said.update(map(said_by, self.examples))

    def weigh(self, proposals: Sequence[Proposal]) -> list[Unfit | None]:
        """For each proposal, in order, None where it is taken, or why not. Of equal ones the first is taken."""
        verdicts: list[Unfit | None] = [self.read(proposal) for proposal in proposals]
        for question in (self.tested, self.apart, self.alike, self.judged):
            left = [place for place, verdict in enumerate(verdicts) if verdict is None]
            for place, verdict in zip(left, question([proposals[place] for place in left]), strict=True):
                verdicts[place] = verdict
        return [verdict or self._first(proposal) for proposal, verdict in zip(proposals, verdicts, strict=True)]

    def _first(self, proposal: Proposal) -> Unfit | None:
        said = said_by(proposal.example)
        if said in self.said:
            return Unfit("double", "another example says the same")
        self.said.add(said)
        return None

    # --- by reading ----------------------------------------------------------------------------------------------------------

    def read(self, proposal: Proposal) -> Unfit | None:
        """What its text tells. A person's word stands above length, links and protected text."""
        decision = proposal.decision
        if decision and decision.decision == "reject":
            return Unfit("rejected", f"{decision.author}: {decision.reason}")
        new, old = proposal.example, proposal.job.example
        if not new.response.strip() or not new.prompt[-1].content.strip():
            return Unfit("empty", "prompt or response is empty")
        if said_by(new) == said_by(old):
            return Unfit("unchanged", "it says what the example says")
        if said_by(new) in self.said:
            return Unfit("double", "another example says the same")
        if not self.is_plain(new):
            return Unfit("control token", "it spells a token of the model that parts turns")
        return None if decision else self._length(proposal) or self._protected(proposal) or self._foreign(proposal)

    def _length(self, proposal: Proposal) -> Unfit | None:
        """Whether it explodes or shrinks. What is new beside an example may be shorter."""
        old, new, most = proposal.job.example, proposal.example, self.params.length
        for what, before, after in (
            ("prompt", len(as_text(old.prompt)), len(as_text(new.prompt))),
            ("response", len(old.response), len(new.response)),
        ):
            change = f"the {what} went from {before} to {after} characters"
            if after > max(self.params.free, most * before):
                return Unfit("too long", change)
            if before > max(self.params.free, most * after) and proposal.job.operator != "extend":
                return Unfit("too short", change)
        return None

    def _protected(self, proposal: Proposal) -> Unfit | None:
        old, new = as_text(proposal.job.example.prompt), as_text(proposal.example.prompt)
        for pattern in self.params.protected:
            if lost := {found.group() for found in re.finditer(pattern, old)} - {
                m.group() for m in re.finditer(pattern, new)
            }:
                return Unfit("protected text lost", ", ".join(sorted(lost))[:200])
        return None

    def _foreign(self, proposal: Proposal) -> Unfit | None:
        """Links, or code in a text, that nothing it was made from has."""
        sources = [proposal.job.example, *proposal.job.hints]
        known = "\n".join(message.content for source in sources for message in source.messages)
        new = "\n".join(message.content for message in proposal.example.messages)
        if links := set(LINK.findall(new)) - set(LINK.findall(known)):
            return Unfit("brings a link", ", ".join(sorted(links))[:200])
        if "```" in new and "```" not in known:
            return Unfit("brings code", "nothing it was made from has any")
        return None

    # --- by running ----------------------------------------------------------------------------------------------------------

    def tested(self, proposals: Sequence[Proposal]) -> Iterator[Unfit | None]:
        """What its tests say. A program that is taken passes them every time, and what must not pass them does not."""
        ready = [self._untestable(proposal) for proposal in proposals]
        cases = [
            list(_cases(proposal)) if unfit is None else [] for proposal, unfit in zip(proposals, ready, strict=True)
        ]
        verdicts = self.judge(case for some in cases for case in some) if self.judge and any(cases) else iter(())
        for proposal, unfit, some in zip(proposals, ready, cases, strict=True):
            runs = [next(verdicts) for _ in some]
            yield unfit or (_told(runs) if runs else self._solved(proposal.example))

    def _untestable(self, proposal: Proposal) -> Unfit | None:
        new = proposal.example
        if not is_code(new):
            return None
        if new.tests is None:
            return Unfit("no tests", "nothing would tell a right program from a wrong one")
        return None if self.judge else NO_SANDBOX

    def _solved(self, example: Example) -> Unfit | None:
        if example.tests is None or self.score(example) >= 1:
            return None
        return Unfit("fails its tests", "the puzzle's verifier does not take the answer")

    # --- against what is evaluated by --------------------------------------------------------------------------------------

    def apart(self, proposals: Sequence[Proposal]) -> Iterator[Unfit | None]:
        """Whether it holds too much of an evaluation text. What many examples of the round share is a phrase."""
        if not proposals or not self.evaluation:
            return iter([None] * len(proposals))
        training = [*self.examples, *(proposal.example for proposal in proposals)]
        found = overlaps(sides(training), self.evaluation, self.params.contamination)
        leaks = {here % len(training): excerpt(self.evaluation[there], 80) for here, there in found.items()}
        places = range(len(self.examples), len(training))
        return (Unfit("contaminated", f"overlaps {leaks[here]!r}") if here in leaks else None for here in places)

    # --- by models -----------------------------------------------------------------------------------------------------------

    def alike(self, proposals: Sequence[Proposal]) -> Iterator[Unfit | None]:
        """How near a text is to the one it was made from, where no tests judge it: its prompt, or its response to the same one."""
        least, embed = self.params.likeness, self.embed
        asked = [self._is_text(proposal) for proposal in proposals]
        if least is None or embed is None or not any(asked):
            return iter([None] * len(proposals))
        chosen = [proposal for proposal, wanted in zip(proposals, asked, strict=True) if wanted]
        pairs = [_compared(proposal) for proposal in chosen]
        vectors = embed([*(new for new, _ in pairs), *(old for _, old in pairs)])
        cosines = iter((vectors[: len(chosen)] * vectors[len(chosen) :]).sum(axis=1).tolist())
        return iter([_too_far(next(cosines), least) if wanted else None for wanted in asked])

    def judged(self, proposals: Sequence[Proposal]) -> Iterator[Unfit | None]:
        """What the judge says of a text, where there is one."""
        if self.params.judge is None or self.ask_judge is None:
            return iter([None] * len(proposals))
        asked = [self._is_text(proposal) for proposal in proposals]
        chosen = [proposal for proposal, wanted in zip(proposals, asked, strict=True) if wanted]
        prompts = [ask.judging(proposal.example) for proposal in chosen]
        answers = iter(list(self.ask_judge(prompts, [proposal.example.id for proposal in chosen])) if chosen else ())
        least = self.params.judge.least
        return iter([_poor(next(answers).text, least) if wanted else None for wanted in asked])

    def _is_text(self, proposal: Proposal) -> bool:
        return proposal.example.tests is None and proposal.decision is None


def said_by(example: Example) -> str:
    """All that an example says, white space aside."""
    return "\n".join(f"{message.role} {' '.join(message.content.split())}" for message in example.messages)


def _compared(proposal: Proposal) -> tuple[str, str]:
    """The prompts, new and old; the responses where the prompt stays."""
    new, old = proposal.example, proposal.job.example
    prompts = as_text(new.prompt), as_text(old.prompt)
    return prompts if prompts[0] != prompts[1] else (new.response, old.response)


def _cases(proposal: Proposal) -> Iterator[Case]:
    """Its program, several times, then the programs that must fail; none for puzzles and texts."""
    tests = proposal.example.tests
    if tests is not None and tests.kind != "answer":
        for code in (*(program(proposal.example.response) for _ in range(RUNS)), *proposal.idle):
            yield Case(code, tests)


def _told(runs: Sequence[Verdict]) -> Unfit | None:
    own, idle = runs[:RUNS], runs[RUNS:]
    kinds = sorted({run.kind for run in own})
    if kinds == ["passed"]:
        passes = any(run.kind == "passed" for run in idle)
        return Unfit("tests tell nothing", "they let another program pass") if passes else None
    failed = next(run for run in own if run.kind != "passed")
    if len(kinds) > 1:
        return Unfit("flaky tests", f"{RUNS} runs ended in {' and '.join(kinds)}")
    return Unfit("fails its tests", f"{failed.kind}: {failed.detail}")


def _too_far(cosine: float, least: float) -> Unfit | None:
    return None if cosine >= least else Unfit("unlike", f"cosine {cosine:.2f} to what it was made from")


def _poor(text: str, least: float) -> Unfit | None:
    score = ask.score_of(text)
    if score is None:
        return Unfit("not judged", "the judge's answer holds no score")
    return None if score >= least else Unfit("judged poor", f"{score} of 10")
