"""Proposals without tests: equal examples are taken once, and an answer that a generator gives again and again is not taken."""

from dataclasses import replace

import pytest

from tasks.core.records import Tests
from tasks.core.text.contamination import sides
from tasks.core.text.writing import Answer
from tasks.stages.refine.acceptance.acceptor import REPEATED, Acceptor
from tasks.stages.refine.config import Acceptance
from tasks.stages.refine.prompting.prompts import MARK
from tasks.stages.refine.proposals import Job, Proposal
from tests import tiny as small
from tests.chat_server import serving

EXAMPLES = [small.example(number, response=f"answer {number % 2}") for number in range(8)]


@pytest.fixture
def acceptor():
    return Acceptor(Acceptance(likeness=None), EXAMPLES, [], lambda example: True, None, lambda example: 0.0)


def proposals(answers, prompt="A new prompt, number {}."):
    """Proposals for the examples in turn, each with its own prompt."""
    rows = [small.example(100 + n, prompt=prompt.format(n), response=answer) for n, answer in enumerate(answers)]
    return [
        Proposal(row, Job(parent, "extend"), "writer", (parent.id,))
        for row, parent in zip(rows, EXAMPLES, strict=False)
    ]


def reasons(acceptor, made):
    return [unfit and unfit.reason for unfit in acceptor.accept_or_reject(made)]


def test_of_equal_proposals_the_first_is_taken(acceptor):
    assert reasons(acceptor, proposals(["a", "a", "b"], prompt="One prompt.")) == [None, "double", None]
    assert reasons(acceptor, proposals(["b"], prompt="One prompt.")) == ["double"]


def test_programs_that_differ_in_their_indentation_are_two(acceptor):
    inside = "Here it is:\n```python\nfor x in xs:\n    n += x\n    print(n)\n```"
    outside, spaced = inside.replace("    print", "print"), inside.replace("xs:", "xs: \n")
    made = proposals([inside, outside, spaced], prompt="Add them up.")
    assert reasons(acceptor, made) == ["brings code"] * 3
    parent = small.example(50, prompt="Add up.", response="```python\n```")
    made = [replace(proposal, job=Job(parent, "extend")) for proposal in made]
    assert reasons(acceptor, made) == [None, None, "double"]


def test_a_generator_that_repeats_one_answer_is_named_and_nothing_of_it_is_taken(acceptor):
    made = proposals(["As an AI model I cannot."] * REPEATED + ["As an  AI model I cannot.", "a reply"])
    unfit = acceptor.accept_or_reject(made)
    assert [why and why.reason for why in unfit] == ["repeated"] * (REPEATED + 1) + [None]
    assert unfit[0].detail == f"{REPEATED + 1} proposals have this answer"
    assert reasons(acceptor, proposals(["another reply"] * REPEATED)) == [None] * REPEATED


def test_a_judge_whose_server_refuses_is_told_from_one_without_a_score(acceptor):
    judge = {"server": {"url": "http://127.0.0.1:1/v1", "model": "judge"}}
    config = Acceptance.model_validate({"likeness": None, "judge": judge})
    replies = Answer("", "status 413"), Answer("Good."), Answer("Score: 9"), Answer("<think>Well", ended=False)
    judged = replace(acceptor, config=config, ask_judge=lambda prompts, keys: replies)
    unfit = judged.accept_or_reject(proposals(["a", "b", "c", "d"]))
    assert [why and (why.reason, why.detail) for why in unfit] == [
        ("not judged", "the judge's server refuses: status 413"),
        ("not judged", "the judge's answer holds no score"),
        None,
        (
            "not judged",
            "the judge's answer was cut off before a score: raise refine.accept.judge.server.max_new_tokens for a model that reasons",
        ),
    ]


def test_what_is_no_regular_expression_is_refused_before_anything_is_proposed():
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression: missing \)"):
        Acceptance.model_validate({"protected": [r"\d+", "("]})


def test_a_label_that_examples_have_may_be_the_answer_to_many(acceptor):
    assert reasons(acceptor, proposals(["answer 1"] * 6)) == [None] * 6


def test_an_answer_that_a_verifier_judges_may_be_the_same_to_many(acceptor):
    judged = replace(acceptor, score_answer=lambda example: 1.0)
    made = [replace(p, example=replace(p.example, tests=Tests("answer", "sums", "{}"))) for p in proposals(["4"] * 6)]
    assert reasons(judged, made) == [None] * 6


@pytest.mark.parametrize("prompt", ["How far is it from the old bridge of {} to the new one by the river?", "{} " * 40])
def test_a_leak_that_a_generator_repeats_is_no_phrase(prompt):
    words = [f"word{number}" for number in range(40)]
    leak = prompt.format(*words)
    rows = [small.example(number, prompt=f"A question about the thing of number {number}.") for number in range(30)]
    evaluation = sides([small.example(99, prompt=leak)])
    acceptor = Acceptor(Acceptance(likeness=None), rows, evaluation, lambda example: True, None, lambda example: 0.0)
    most = acceptor.config.contamination.common
    new = [small.example(100 + n, prompt=f"{leak} Say {n}.", response=f"It is {n}.") for n in range(most + 1)]
    made = [
        Proposal(row, Job(parent, "extend"), "writer", (parent.id,)) for row, parent in zip(new, rows, strict=False)
    ]
    assert reasons(acceptor, made) == ["contaminated"] * (most + 1)


def test_a_prompt_of_a_few_words_that_models_are_evaluated_by_is_not_taken(refine):
    rows = [small.example(number, prompt=f"Capital of {land}?") for number, land in enumerate(("Peru", "Mali"))]
    held_out = [small.example(5, prompt="Capital of Chad?"), small.example(6, prompt="Capital of Mali?")]

    def reply(request):
        if request["messages"][0]["role"] != "system":
            return f"That of {request['messages'][-1]['content']}"
        return f"{MARK}\nCapital of {'Chad' if 'Peru' in request['messages'][-1]['content'] else 'Mali'}?"

    with serving(reply) as server:
        writer = {"from": "endpoint", "server": {"url": server.url, "model": "m"}}
        turn = refine(rows, {0: ["low"], 1: ["low"]}, evaluation=held_out, generator=writer, accept={"likeness": None})
    assert [(line.reason, line.detail) for line in turn.lineage] == [
        ("contaminated", "overlaps 'Capital of Chad?'"),
        ("", ""),
    ], "Mali is asked for in the round already"
    assert [example.prompt[0].content for example in turn.examples] == ["Capital of Peru?", "Capital of Mali?"]
