"""Fresh tasks for the tuned model: what it is asked, how it is judged, and where new tasks are to be added."""

import json
from functools import cache

import pytest

from tasks.core.records import Example, Probe, Signals
from tasks.io import diagnosis, sandbox, tables, verifiers
from tasks.io.sandbox import judge
from tasks.io.sources import gym
from tasks.io.sources.gym import Kind
from tasks.methods.curators import NO_SHARE
from tasks.methods.curators.failures.config import FailuresConfig
from tasks.methods.curators.failures.method import METHOD
from tasks.stages.diagnose import probing, stage
from tasks.stages.diagnose.config import StageConfig
from tests import tiny as small
from tests.support import ScratchRun

KINDS = [
    Kind("spell_backward", "spell_backward", {"min_word_len": 3, "max_word_len": 4}),
    Kind("sums", "chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}),
]


@pytest.fixture
def asked(tmp_path, tiny):
    """Return a function that runs the stage on a random model, and returns the probes, the diagnosis and the run."""
    held_out = gym.new_examples(KINDS[0], 5, "held out", [])
    for name in stage.EVALUATION:
        tables.write(tmp_path / f"{name}.parquet", held_out if name == "test" else [], Example)

    def of(examples, name="r1", kinds=KINDS, **failures):
        gym.write_kinds(tmp_path / "generated.json", kinds)
        tables.write(tmp_path / "examples.parquet", examples, Example)
        inputs = {"base": tiny, "tuned": tiny, "ingested": tmp_path, "examples": tmp_path / "examples.parquet"}
        outputs = {key: tmp_path / name / key for key in ("signals", "probes", "diagnosis")}
        (tmp_path / name).mkdir()
        probes = {"each": 6, "max_new_tokens": 4, "batch_size": 4}
        config = {
            "compute": {"precision": "fp32", "threads": 1},
            "diagnose": {"curator": "failures", "probes": probes},
            "methods": {"failures": {"add": 10, **failures}},
        }
        run = ScratchRun(tmp_path / name, name)
        stage.main(inputs, outputs, StageConfig.model_validate(config), run)
        assert tables.read(outputs["signals"], Signals) == []
        report = json.loads(outputs["diagnosis"].read_text())
        diagnosis.check(outputs["diagnosis"], inputs | outputs)
        return tables.read(outputs["probes"], Probe), report, run

    return of


def test_every_kind_is_asked_tasks_that_no_data_hold_and_the_same_ones_again(asked, tmp_path):
    examples = gym.new_examples(KINDS[0], 5, "train", [])
    probes, report, run = asked(examples)
    assert [probe.kind for probe in probes] == ["spell_backward"] * 6 + ["sums"] * 6
    data = [*examples, *tables.read(tmp_path / "test.parquet", Example)]
    assert not {probe.question for probe in probes} & {example.prompt[0].content for example in data}
    assert asked(examples, "again")[0] == probes
    assert sum(kind["add"] for kind in report["kinds"].values()) == 10
    assert "fresh tasks failed; 10 new tasks to add" in run.said[-1]


def test_a_prompt_of_the_data_is_not_asked(asked):
    first, _, _ = asked([small.example(0)])
    prompts = [small.example(number, prompt=probe.question) for number, probe in enumerate(first)]
    second, _, _ = asked(prompts, "r2")
    assert not {probe.question for probe in first} & {probe.question for probe in second}


def test_the_next_round_is_asked_other_tasks(asked):
    first, _, _ = asked([small.example(0)])
    second, _, _ = asked([small.example(0, round=1)], "r2")
    assert {probe.question for probe in first} != {probe.question for probe in second}


def test_a_model_that_fails_everything_is_told_of(asked):
    probes, report, run = asked([small.example(0)])
    assert not any(probe.passed for probe in probes)
    assert {name: kind["add"] for name, kind in report["kinds"].items()} == {"spell_backward": 5, "sums": 5}
    assert "every task failed, so failures say nothing" in run.said[-1]


def test_without_a_source_that_generates_tasks_the_reason_is_said(asked):
    with pytest.raises(ValueError, match=r"no source of `ingest.sources` generates any: add one"):
        asked([small.example(0)], kinds=[])


def test_without_a_sandbox_nothing_is_asked_whose_verifier_evaluates(asked, monkeypatch):
    for module in (judge, sandbox):
        monkeypatch.setattr(module, "probe", lambda: sandbox.Level(1, "limits"))
    monkeypatch.setattr(verifiers, "_judge", cache(verifiers._judge.__wrapped__))
    monkeypatch.setattr(stage, "_answer", lambda *_, **__: pytest.fail("an answer is written"))
    with pytest.raises(RuntimeError, match=r"asks no fresh tasks: no sandbox .* verifier of countdown evaluates"):
        asked([small.example(0)], kinds=[*KINDS, Kind("countdown", "countdown", {})])


def test_where_no_kind_has_a_task_left_the_reason_is_said():
    known = {gym.prompt_key(task) for task in gym.new_examples(KINDS[1], 250, "all", [])}
    with pytest.raises(ValueError, match="of sums no task is left that is not in the data already"):
        probing.fresh_tasks(KINDS[1:], 5, "seed", known)


def counts(answer, tasks=None, where="failures", add=10):
    tasks = tasks or probing.fresh_tasks(KINDS, 6, "seed", set())
    probes = probing.probe(
        tasks, lambda rows: [answer(row) for row in rows], lambda task, text: gym.score(task.tests, text)
    )
    return probing.allocation(tasks, probes, 100, METHOD, FailuresConfig(add=add, where=where))


def only_sums(task):
    return task.response if task.task == "chain_sum" else "xyz"


def test_the_verifier_judges_and_what_never_fails_gets_nothing():
    by_kind = counts(only_sums)
    distinct = by_kind["sums"]["answers"]
    assert 1 < distinct <= 6
    assert by_kind == {
        "spell_backward": {"asked": 6, "failed": 6, "answers": 1, "add": 10, "why": ""},
        "sums": {"asked": 6, "failed": 0, "answers": distinct, "add": 0, "why": "never failed"},
    }
    text = probing.summary("diagnose r1", by_kind, 6)
    assert "one and the same answer to all tasks of spell_backward" in text
    assert "6 of 12 fresh tasks failed; 10 new tasks to add" in text
    assert "nothing of sums: never failed" in text


def test_the_control_spreads_as_many_over_all_kinds():
    assert [kind["add"] for kind in counts(only_sums, where="uniform").values()] == [5, 5]


def test_where_nothing_fails_nothing_is_added():
    by_kind = counts(lambda task: task.response)
    assert [kind["add"] for kind in by_kind.values()] == [0, 0]
    assert "nothing of spell_backward, sums: never failed" in probing.summary("diagnose r1", by_kind, 6)


def test_a_kind_that_failed_and_gets_nothing_by_rounding_is_not_said_to_have_never_failed():
    by_kind = counts(lambda task: "xyz", add=1)
    assert sorted(kind["why"] for kind in by_kind.values()) == ["", NO_SHARE]
    assert "never failed" not in probing.summary("diagnose r1", by_kind, 6)


def test_a_verifier_that_takes_planted_answers_is_named_and_its_kind_gets_nothing(monkeypatch):
    real = gym.score
    monkeypatch.setattr(gym, "score", lambda tests, text: 1.0 if tests.code == "chain_sum" else real(tests, text))
    by_kind = counts(lambda task: "xyz")
    assert by_kind["sums"] == {"asked": 6, "failed": 0, "answers": 1, "add": 0, "why": gym.UNTRUSTED}
    assert by_kind["spell_backward"]["add"] == 10
    assert f"nothing of sums: {gym.UNTRUSTED}" in probing.summary("diagnose r1", by_kind, 6)


def test_a_kind_that_runs_out_is_measured_by_what_there_is_and_told_of():
    sums = gym.new_examples(KINDS[1], 250, "all", [])
    known = {gym.prompt_key(task) for task in sums[2:]}
    tasks = probing.fresh_tasks(KINDS, 30, "seed", known)
    assert len(tasks["spell_backward"]) == 30
    assert 1 <= len(tasks["sums"]) <= 10
    by_kind = counts(only_sums, tasks)
    assert by_kind["sums"]["asked"] == len(tasks["sums"])
    assert f"fewer than 30 fresh tasks could be generated: sums {len(tasks['sums'])}" in probing.summary(
        "r1", by_kind, 30
    )
