"""Multiple choice without generation: the option with the highest log-likelihood as a response, in total and per character.

These are lm-evaluation-harness's `acc` and `acc_norm` of `multiple_choice` tasks under a chat template. Brown et al. 2020,
https://arxiv.org/abs/2005.14165, §2.4, normalise likelihoods by length for the same reason: longer options are less likely.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tasks.core.answers import registry
from tasks.core.answers.base import PASSED, WRONG
from tasks.core.answers.choice import ACC, ACC_NORM, Choice
from tasks.core.records import Example, Result
from tasks.core.sequences import Encoded
from tasks.engine import chat_template
from tasks.engine.inference.scoring import Loss

TIE = "tie"
"""The outcome if several options are equally likely; the first of them counts, as in the harness."""
Losses = Callable[[Sequence[Encoded]], Iterable[Loss]]


def score_options(problems: Sequence[Example], tokenizer: Any, losses: Losses) -> list[Result]:
    """Return, for each item, the results of `choice acc` and `choice acc_norm`."""
    expected = {problem.id: registry.of(_tests(problem)) for problem in problems}
    sequences = [
        sequence
        for problem in problems
        for sequence in _options(problem, _continuations(*expected[problem.id]), tokenizer)
    ]
    nats = {loss.id: loss.nats for loss in losses(sequences)}
    results: list[Result] = []
    for problem in problems:
        check, reference = expected[problem.id]
        texts = _continuations(check, reference)
        logs = [-nats[_name(problem, number)] for number in range(len(texts))]
        per_character = [log / len(text) for log, text in zip(logs, texts, strict=True)]
        for measure, scores in ((ACC, logs), (ACC_NORM, per_character)):
            results.append(likeliest(measure, problem, reference["right"], texts, scores))
    return results


def _options(problem: Example, texts: Sequence[str], tokenizer: Any) -> list[Encoded]:
    """Return the prompt followed by each option, without an end of turn. Only the tokens of the option are scored.

    White space at the end of the chat template is scored with the option, as in the harness. It adds the same to all options of an item,
    so it changes `acc_norm` alone. Reasoning that the template opens is closed, so that the option stands after it.
    """
    rendered = chat_template.render_prompt(problem.prompt, tokenizer)
    rendered += chat_template.empty_reasoning(rendered)
    context = len(tokenizer(rendered.rstrip(), add_special_tokens=False)["input_ids"])
    sequences = []
    for number, text in enumerate(texts):
        ids = tokenizer(rendered + text, add_special_tokens=False)["input_ids"]
        weights = [float(place >= context) for place in range(len(ids))]
        sequences.append(Encoded(_name(problem, number), ids, weights, len(text.encode()), problem.task))
    return sequences


def likeliest(measure: str, problem: Example, right: int, texts: Sequence[str], scores: Sequence[float]) -> Result:
    """Return the result of an item, which is right if the text at index `right` has the highest score; the first of equal scores counts."""
    best = max(scores)
    chosen = scores.index(best)
    outcome = TIE if scores.count(best) > 1 else PASSED if chosen == right else WRONG
    shown = "\n".join(f"{score:.6f}  {text}" for score, text in zip(scores, texts, strict=True))
    return Result(
        measure, problem.id, problem.group, problem.tier, float(chosen == right), 1, 1, outcome, shown,
        parsed=texts[chosen], expected=texts[right], domain=problem.domain,
    )  # fmt: skip


def _continuations(check: registry.AnyKind, expected: Any) -> list[str]:
    assert isinstance(check, Choice)
    return check.continuations(expected)


def _name(problem: Example, number: int) -> str:
    return f"{problem.id}/{number}"


def _tests(problem: Example) -> Any:
    assert problem.tests is not None
    return problem.tests
