"""Checks that need a model: the similarity of a text to its parent, and a judge's score."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Unfit
from tasks.core.text.writing import Answer, Write
from tasks.stages.refine.example_text import as_text
from tasks.stages.refine.prompting.answers import parse_score
from tasks.stages.refine.prompting.prompts import judge_prompt
from tasks.stages.refine.proposals import Proposal

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def check_similarity(proposals: Sequence[Proposal], embed: Embed, least: float) -> list[Unfit | None]:
    """Reject texts whose cosine to their parent is below `least`."""
    pairs = [_compared_texts(proposal) for proposal in proposals]
    vectors = embed([*(new for new, _ in pairs), *(old for _, old in pairs)])
    cosines = (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(axis=1).tolist()
    return [
        None if cosine >= least else Unfit("unlike", f"cosine {cosine:.2f} to what it was made from")
        for cosine in cosines
    ]


def check_with_judge(proposals: Sequence[Proposal], ask_judge: Write, least: float) -> Iterator[Unfit | None]:
    """Reject texts that the judge scores below `least`, or whose score cannot be read."""
    prompts = [judge_prompt(proposal.example) for proposal in proposals]
    answers = list(ask_judge(prompts, [proposal.example.id for proposal in proposals]))
    return (_check_score(answer, least) for answer in answers)


def _compared_texts(proposal: Proposal) -> tuple[str, str]:
    """Return the prompts, new and old, or the responses if the prompt is the same."""
    new, old = proposal.example, proposal.job.example
    prompts = as_text(new.prompt), as_text(old.prompt)
    return prompts if prompts[0] != prompts[1] else (new.response, old.response)


def _check_score(answer: Answer, least: float) -> Unfit | None:
    if answer.refused:
        return Unfit("not judged", f"the judge's server refuses: {answer.refused}")
    score = parse_score(answer.text)
    if score is None and not answer.ended:
        return Unfit(
            "not judged",
            "the judge's answer was cut off before a score: raise refine.accept.judge.server.max_new_tokens for a model that reasons",
        )
    if score is None:
        return Unfit("not judged", "the judge's answer holds no score")
    return None if score >= least else Unfit("judged poor", f"{score} of 10")
