"""Ask a judge which is better, the model's answer or the reference, and mix in control pairs whose verdict is known.

Zheng et al. 2023, https://arxiv.org/abs/2306.05685: judges have a position bias, so the order is drawn at random for each pair. The control
("planted") pairs are ours: the reference against the reference of another question.
"""

import random
import re
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from tasks.core.answers import registry
from tasks.core.answers.base import PASSED, Grade
from tasks.core.answers.judge import AGREEMENT, Judge
from tasks.core.records import Example, Message, Result
from tasks.core.text.contamination import prompt_of
from tasks.core.text.reasoning import answer_of
from tasks.core.text.writing import Answer, Decoding, JudgeServer, Write
from tasks.stages.evaluate.config import Rules

NO_VERDICT = "no verdict"
CUT_OFF = "Some were cut off: raise evaluate.judge.max_new_tokens for a model that reasons."
MOST_PLANTED = 20
WORD, NUMBER = re.compile(r"[^\W\d_]+"), re.compile(r"\d+(?:[.,]\d+)*")
ARTICLE = r"[ \t]+(?!(?:[a-z]+ly\s+)*(?!less\b)[a-z]+s\b|(?:because|since|over|by|for|would|will|could|should|might|may)\b)[a-z]"
"""Matches what follows an A that is an article, as in `A close call`: a word in lower case that is neither a verb, as in `A wins` or
`A clearly explains`, nor the start of a reason, as in `A because`."""
VERDICT = re.compile(
    r"\W*(?P<named>(?i:answer|option|verdict)\b\W*)?"
    rf"(?:(?:A\s+)?(?i:tie)|(?P<better>B|A(?(named)|(?!{ARTICLE}))))\b(?!\s*(?:and\b|or\b|[&/]))"
)
"""Matches a verdict at the start of the judge's reply, with or without a word such as `Answer` before it. "A and B are equally good" does
not match, since it prefers neither."""
REQUEST = """Two answers to one question follow. {criterion}

Reply with one word: A, B, or TIE if neither is better.

[Question]
{question}

[Answer A]
{a}

[Answer B]
{b}"""


class _Pair(NamedTuple):
    """A pair of answers to a question: the judged answer, and the answer with which it is compared."""

    problem: Example
    judged: str
    other: str
    key: str

    @property
    def shown(self) -> tuple[str, str]:
        """Return the two answers in the order in which they are shown."""
        return (self.judged, self.other) if self.is_first else (self.other, self.judged)

    @property
    def is_first(self) -> bool:
        """Return True if the judged answer is shown as A."""
        return random.Random(self.key).random() < 0.5

    def request(self) -> list[Message]:
        """Return the question to the judge."""
        check, _ = registry.of(self.problem.tests) if self.problem.tests else (None, None)
        assert isinstance(check, Judge)
        a, b = self.shown
        text = REQUEST.format(criterion=check.criterion, question=prompt_of(self.problem), a=a, b=b)
        return [Message("user", text)]

    def preference(self, answer: Answer) -> float | None:
        """Return 1 if the judge prefers the judged answer, 0 if the other, 0.5 if neither; None if its reply is no verdict."""
        match = None if answer.refused else VERDICT.match(answer_of(answer.text))
        if match is None:
            return None
        return float((match["better"] == "A") == self.is_first) if match["better"] else 0.5


class Judging:
    """Grades answers by a judge, a model or a set of rules, and keeps the results of the planted pairs."""

    def __init__(self, judge: Write | Rules, seed: int) -> None:
        self._judge, self._seed = judge, seed
        self.planted: list[Result] = []

    def grade(self, problems: Sequence[Example], answers: Sequence[str]) -> list[Grade]:
        """Return the grade of each answer. Without a verdict it has the grade of a tie, and the outcome `no verdict`.

        Raises ValueError if no answer of the judge is a verdict.
        """
        real = [
            _Pair(problem, answer_of(answer), _reference(problem), f"{self._seed} {problem.id}")
            for problem, answer in zip(problems, answers, strict=True)
        ]
        planted = _planted(problems, self._seed)
        pairs = [*real, *planted]
        random.Random(self._seed).shuffle(pairs)
        replies = self._replies(pairs)
        preferences = {pair.key: pair.preference(reply) for pair, reply in zip(pairs, replies, strict=True)}
        if not any(preference is not None for preference in preferences.values()):
            first = "; ".join(repr(reply.refused or reply.text[:60]) for reply in replies[:3])
            raise ValueError(
                f"evaluate.judge: none of {len(replies)} answers is A, B or TIE. The first: {first}. "
                + ("Another model would do." if all(reply.ended for reply in replies) else CUT_OFF)
            )
        self.planted = [_agreement(pair, preferences[pair.key]) for pair in planted]
        return [_grade(preferences[pair.key]) for pair in real]

    def _replies(self, pairs: Sequence[_Pair]) -> list[Answer]:
        if isinstance(self._judge, Rules):
            return [Answer(_by_overlap(pair, self._judge.margin)) for pair in pairs]
        return list(self._judge([pair.request() for pair in pairs], [pair.key for pair in pairs]))


def decoding(judge: JudgeServer) -> Decoding:
    """Return the decoding of a judge's reply: as nearly greedy as `Decoding` allows, whose temperature is above 0."""
    return Decoding(temperature=0.01, top_p=1.0, max_new_tokens=judge.max_new_tokens)


def _by_overlap(pair: _Pair, margin: float) -> str:
    """Return the letter of the answer that is more like the reference, or TIE."""
    first, second = (likeness(text, _reference(pair.problem)) for text in pair.shown)
    if abs(first - second) <= margin:
        return "TIE"
    return "A" if first > second else "B"


def likeness(answer: str, reference: str) -> float:
    """Return the mean of two Dice coefficients, of the words and of the numbers in two texts.

    A kind that the reference has none of is left out.
    """
    shares = []
    for pattern in (WORD, NUMBER):
        ours, theirs = (set(pattern.findall(text.casefold())) for text in (answer, reference))
        if theirs:
            shares.append(2 * len(ours & theirs) / (len(ours) + len(theirs)))
    return fmean(shares) if shares else float(answer.strip() == reference.strip())


def _grade(preference: float | None) -> Grade:
    if preference is None:
        return Grade(0.5, NO_VERDICT)
    return Grade(preference, {1.0: PASSED, 0.5: "tie", 0.0: "reference preferred"}[preference])


def _planted(problems: Sequence[Example], seed: int) -> list[_Pair]:
    """Return pairs with a known verdict: a reference and that of another question, where each is the judged answer in turn."""
    pairs: list[_Pair] = []
    for number, (problem, other) in enumerate(zip(problems, [*problems[1:], *problems[:1]], strict=True)):
        good, bad = _reference(problem), _reference(other)
        if good.strip() != bad.strip() and len(pairs) < MOST_PLANTED:
            judged, against = (good, bad) if number % 2 == 0 else (bad, good)
            pairs.append(_Pair(problem, judged, against, f"{seed} planted {problem.id}"))
    return pairs


def _agreement(pair: _Pair, preference: float | None) -> Result:
    expected = float(pair.judged == _reference(pair.problem))
    outcome = NO_VERDICT if preference is None else PASSED if preference == expected else "disagrees"
    problem = pair.problem
    return Result(AGREEMENT, problem.id, problem.group, None, float(outcome == PASSED), 1, 1, outcome, pair.judged)


def _reference(problem: Example) -> str:
    assert problem.tests is not None
    return str(registry.of(problem.tests)[1])
