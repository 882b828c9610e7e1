"""New tasks by a diagnosis of failures: as many of each kind as it says, fresh, verified, with the reason in the lineage."""

from collections import Counter

import pytest

from tasks.core.records import Example, Probe
from tasks.core.text.writing import Answer
from tasks.io import tables
from tasks.io.sources import gym
from tasks.io.sources.gym import Kind
from tasks.stages.diagnose import stage as diagnose
from tasks.stages.diagnose.config import StageConfig as DiagnoseConfig
from tasks.stages.refine.acceptance.acceptor import Acceptor
from tasks.stages.refine.config import Acceptance, RefineConfig
from tasks.stages.refine.new_tasks import UNSOLVED, NewTasks, OwnAnswers
from tests import tiny as small
from tests.stages.refine.turns import prepare, work
from tests.support import ScratchRun

KINDS = [
    Kind("spell_backward", "spell_backward", {"min_word_len": 3, "max_word_len": 4}),
    Kind("sums", "chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}),
]
BY_TASKS = {"from": "tasks"}


def diagnosed(spelling=4, sums=2):
    return {
        "spell_backward": {"asked": 40, "failed": 31, "add": spelling, "why": ""},
        "sums": {"asked": 40, "failed": 9, "add": sums, "why": ""},
    }


def turn(kinds=None, probes=()):
    return {"kinds": diagnosed() if kinds is None else kinds, "generated": KINDS, "probes": probes}


def prompts(examples):
    return {gym.prompt_key(example) for example in examples}


def test_a_turn_adds_what_the_diagnosis_says_and_the_lineage_says_why(refine):
    first = gym.new_examples(KINDS[0], 3, "train", [])
    result = refine(first, {}, tasks=turn(), generator=BY_TASKS)
    assert result.examples[:3] == first
    added = result.examples[3:]
    assert [example.task for example in added] == ["spell_backward"] * 4 + ["chain_sum"] * 2
    assert {example.round for example in added} == {1}
    assert all(gym.score(example.tests, example.response) == 1 for example in added)
    assert not prompts(first) & prompts(added)
    assert [(line.id, line.operator, line.parents) for line in result.lineage] == [(e.id, "add", []) for e in added]
    assert result.lineage[0].detail == (
        "4 of 6 new tasks are spell_backward, of which the model failed 31 of 40 fresh ones"
    )
    assert result.record["accepted"] == {"add": 6}
    assert result.record["accepted_by_generator"] == {"reasoning-gym": 6}
    assert "3 → 9 examples; 6 of 6 proposals taken (6 add)" in result.run.said[-1]


def test_what_a_diagnosis_writes_a_refinement_reads(tmp_path, tiny):
    inputs = prepare(tmp_path / "turn", tiny, [small.example(0)], {}, generated=KINDS)
    outputs = {name: inputs[name] for name in ("signals", "probes", "diagnosis")}
    config = {
        "compute": {"precision": "fp32", "threads": 1},
        "diagnose": {"curator": "failures", "probes": {"each": 2, "max_new_tokens": 2}},
        "methods": {"failures": {"add": 4}},
    }
    diagnose.main(inputs, outputs, DiagnoseConfig.model_validate(config), ScratchRun(tmp_path / "turn", "r1"))
    work(inputs, tmp_path / "turn", {"generator": BY_TASKS})
    examples = tables.read(tmp_path / "turn/new_examples", Example)
    assert Counter(example.task for example in examples) == {"chat": 1, "spell_backward": 2, "chain_sum": 2}
    probed = {" ".join(probe.question.split()) for probe in tables.read(inputs["probes"], Probe)}
    assert len(probed) == 4
    assert not probed & prompts(examples)


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(refine):
    first = gym.new_examples(KINDS[0], 3, "train", [])
    results = [
        refine(first, {}, name=f"turn-{number}", tasks=turn(), generator=BY_TASKS, seed=number // 2)
        for number in range(3)
    ]
    files = [(result.folder / "new_examples").read_bytes() for result in results]
    assert files[0] == files[1] != files[2]


def test_a_later_round_gets_other_tasks(refine):
    first = gym.new_examples(KINDS[0], 3, "train", [])
    second = refine(first, {}, tasks=turn(), generator=BY_TASKS).examples
    third = refine(second, {}, name="next", tasks=turn(), generator=BY_TASKS).examples
    assert len(prompts(third)) == 3 + 6 + 6
    assert [example.round for example in third[-6:]] == [2] * 6


def test_no_new_task_is_in_evaluation_data_or_was_probed(refine):
    first = [small.example(0)]
    added = refine(first, {}, tasks=turn(), generator=BY_TASKS).examples[1:]
    held_out, probed = added[:2], added[2:]
    probes = [Probe(task.id, "sums", task.prompt[0].content, "", task.response, False) for task in probed]
    again = refine(
        first, {}, name="again", tasks=turn(probes=probes), evaluation=held_out, generator=BY_TASKS
    ).examples[1:]
    assert len(again) == 6
    assert not prompts(again) & prompts(added)


def test_where_nothing_failed_the_round_stays_as_it_is(refine):
    first = [small.example(0)]
    result = refine(first, {}, tasks=turn(diagnosed(0, 0)), generator=BY_TASKS)
    assert result.examples == first
    assert (result.record["changed"], result.record["why"]) == (False, "nothing chosen")


def test_a_kind_that_runs_out_adds_what_there_is(refine):
    everything = gym.new_examples(KINDS[1], 250, "all", [])
    result = refine(everything[2:], {}, tasks=turn(diagnosed(0, 50)), generator=BY_TASKS)
    assert len(result.examples) - len(everything[2:]) == result.record["proposals"]["accepted"] < 50
    assert result.record["chosen"] == {"add": 50}


def test_review_decisions_on_examples_hold(refine):
    first = [small.example(number) for number in range(2)]
    decided = [{"id": first[0].id, "decision": "reject"}]
    result = refine(first, {}, tasks=turn(), decided=decided, generator=BY_TASKS)
    assert result.examples[0] == first[1]
    assert len(result.examples) == 1 + 6
    assert result.record["decisions"]["rejected"] == 1


@pytest.mark.parametrize(("tasks", "generator"), [(None, BY_TASKS), (turn(), {"from": "rules"})])
def test_a_generator_and_a_diagnosis_that_do_not_go_together_are_refused(refine, tasks, generator):
    with pytest.raises(ValueError, match=r"does not go with diagnose.curator"):
        refine([small.example(0)], {}, tasks=tasks, generator=generator)


def test_a_round_of_new_tasks_cannot_keep_its_scale():
    with pytest.raises(ValueError, match="set keep_scale: paper"):
        RefineConfig.model_validate({"generator": BY_TASKS, "keep_scale": "exact"})


def makes(write, add=4, tries=3, samples=2):
    """Return the new tasks that a model answers, and their lineage. `write` gives its answer to a task and a sample's number."""
    by_prompt = {}

    def answer(conversations, keys):
        for prompt, key in zip(conversations, keys, strict=True):
            yield Answer(write(by_prompt.setdefault(prompt[0].content, len(by_prompt)), prompt, int(key.split()[-1])))

    def score(example):
        return gym.score(example.tests, example.response)

    acceptor = Acceptor(Acceptance(likeness=None), [], [], lambda example: True, None, score)
    own = OwnAnswers("tuned", samples, 0, answer, score)
    new = NewTasks(KINDS[:1], diagnosed(add), acceptor, set(), 0, 1, tries, own)
    return new.make(), new.lineage


def backward(prompt):
    return prompt[0].content.split(": ")[-1][::-1]


def test_the_models_own_answer_trains_if_the_verifier_takes_it():
    made, lineage = makes(lambda number, prompt, sample: backward(prompt) if sample == 1 else "xyz")
    assert [example.response for example in made] == [backward(example.prompt) for example in made]
    assert len(made) == 4
    assert {(line.generator, line.accepted) for line in lineage} == {("tuned", True)}


def test_a_task_without_a_verified_answer_is_replaced_and_in_the_lineage():
    made, lineage = makes(lambda number, prompt, sample: "xyz" if number < 3 else backward(prompt))
    assert len(made) == 4
    assert [line.reason for line in lineage] == [UNSOLVED] * 3 + [""] * 4


def test_an_answer_that_was_cut_off_is_not_the_models_own():
    tasks, ended = gym.new_examples(KINDS[0], 1, "seed", set()), [False, True]

    def answer(conversations, keys):
        return [
            Answer(backward(conversations[0]), ended=ended[0]),
            Answer(f" {backward(conversations[0])} ", ended=ended[1]),
        ]

    def own():
        return next(
            OwnAnswers("tuned", 2, 0, answer, lambda example: gym.score(example.tests, example.response)).of(tasks)
        )

    assert own().response == backward(tasks[0].prompt)
    ended[1] = False
    assert own() is None


def test_a_model_that_never_passes_adds_nothing_and_is_not_asked_for_ever():
    made, lineage = makes(lambda number, prompt, sample: " ", tries=2)
    assert made == []
    assert [line.reason for line in lineage] == [UNSOLVED] * 8
