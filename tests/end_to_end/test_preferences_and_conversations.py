"""From files of one's own to a report, offline: preference pairs, and conversations of several turns that call a tool, in one workspace."""

import json
import re
import shutil

import pytest
import yaml

from tasks.core.records import Result
from tasks.io import tables
from tests.engine.chat_templates import FAMILIES

ROWS = 24
ADD = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
RUNS = {"cross_entropy": ("dvc", "repro", "--quiet", "tune@r0"), "dpo": ("flows.pipeline",)}
"""Objectives, and what is run of each: `dpo` to the report."""


def pairs():
    """Preference pairs as TRL's data sets have them."""
    for n in range(ROWS):
        yield {
            "prompt": f"What is {n} and one?",
            "chosen": f"It is {n + 1}.",
            "rejected": f"{n + 2}, I think, or more.",
        }


def chats():
    """Conversations as OpenAI's interface has them: a question, a call, its result, an answer, and one turn more."""
    for n in range(ROWS):
        call = {"type": "function", "function": {"name": "add", "arguments": json.dumps({"a": n})}}
        yield {
            "tools": [{"type": "function", "function": ADD}],
            "messages": [
                {"role": "user", "content": f"Add {n}."},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": str(n)},
                {"role": "assistant", "content": f"The sum is {n}."},
                {"role": "user", "content": "Sure?"},
                {"role": "assistant", "content": f"Yes, {n}."},
            ],
        }


@pytest.fixture(scope="module")
def copy(workspace, prefect, tmp_path_factory):
    """A workspace into which both files were taken by `ratchet init`."""
    copy, own = workspace("micro", PREFECT_API_URL=prefect), tmp_path_factory.mktemp("own")
    params = copy.folder / "params.yaml"
    copy.said, sources = {}, []
    for name, rows in (("pairs", pairs()), ("chats", chats())):
        file = own / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        copy.said[name] = copy.run("flows.commands", "init", str(file))
        sources += yaml.safe_load(params.read_text())["ingest"]["sources"]
    config = yaml.safe_load(params.read_text())
    sources[-1]["check"] = "exact"
    config["ingest"]["sources"] = sources
    config["tune"] |= {"pack_tokens": 1024, "max_tokens": 6000}
    config["evaluate"] |= {"max_tokens": 1024, "domain_tokens": 4000}
    config["rounds"], config["turns"] = {"r0": {}}, {}
    config["models"] = {
        "base": {"group": "reference", "path": "models/base", "base": "models/base"},
        "r0": {"group": "rounds", "path": "models/tuned/r0", "base": "models/pretrained"},
    }
    params.write_text(yaml.safe_dump(config))
    return copy


@pytest.fixture(scope="module")
def refusal(copy):
    """What a run says whose model has a template without tools."""
    return copy.attempt("dvc", "repro", "tune@r0")


@pytest.fixture(scope="module")
def courses(copy, refusal):
    """The training by each objective, with a template that can say tools; the last one by a run of everything."""
    params, model = copy.folder / "params.yaml", copy.folder / "params/micro-data/model"
    shutil.copytree(model, model.with_name("model-with-tools"))
    (model.with_name("model-with-tools") / "chat_template.jinja").write_text(FAMILIES["qwen2.5"].template)
    config = yaml.safe_load(params.read_text())
    config["fetch"]["model"]["path"] += "-with-tools"
    made = {}
    for objective, command in RUNS.items():
        config["tune"]["objective"] = objective
        config["methods"][objective] = {}
        params.write_text(yaml.safe_dump(config))
        copy.run(*command)
        made[objective] = json.loads((copy.folder / "models/tuned/r0/training.json").read_text())
    return made


@pytest.fixture(scope="module")
def rows(copy, courses):
    """The rows of the report's comparison, by measure and part."""
    summary = json.loads((copy.folder / "data/report/summary.json").read_text())
    return {" ".join(filter(None, (row["measure"], row["part"]))): row for row in summary["comparisons"]["r0"]["rows"]}


def test_init_shows_both_sides_and_the_conversation(copy):
    assert "→ chosen: It is 1.\n→ rejected: 2, I think, or more.\n" in copy.said["pairs"]
    assert "→ Yes, 0." in copy.said["chats"]
    for said in copy.said.values():
        assert f"of {ROWS} records read, {ROWS} can be used" in said


def test_a_template_that_cannot_say_tools_refuses_by_name(refusal):
    assert refusal.returncode != 0
    said = refusal.stdout + refusal.stderr
    assert "file data/raw/chats.jsonl: line " in said
    assert (
        "the chat template of the model cannot format this conversation: it leaves out the schemas of the tools."
        in said
    )


def test_conversations_train_with_every_answer_and_dpo_trains_on_the_pairs_alone(courses):
    losses = [loss for *_, loss in courses["cross_entropy"]["loss"]]
    assert losses[-1] < losses[0]
    (_, _, first), *_ = courses["dpo"]["loss"]
    assert first == pytest.approx(0.6931, abs=1e-3), "log 2: the model is its own reference before the first step"
    assert courses["dpo"]["composition"]["objective"] == "dpo"
    assert courses["dpo"]["tokens"] < courses["cross_entropy"]["tokens"]


def test_the_report_has_losses_and_preference_accuracy_with_intervals(copy, rows):
    for measure in ("domain", "preference accuracy"):
        for side in ("before", "after", "difference"):
            figures = rows[measure][side]
            assert figures["low"] <= figures["value"] <= figures["high"], (measure, side)
    preferred = rows["preference accuracy"]
    assert preferred["items"] > 2
    assert preferred["after"]["low"] < preferred["after"]["high"]
    assert 0 <= preferred["mcnemar_p"] <= 1
    assert rows["domain"]["items"] > preferred["items"], "conversations are measured beside the pairs"
    report = copy.folder / "data/report"
    assert "preferences, per cent\n  preference accuracy" in (report / "summary.txt").read_text()
    assert "preference accuracy" in (report / "index.html").read_text()


def test_the_report_has_the_accuracy_of_the_last_answers_of_conversations(copy, rows):
    accuracy = rows["exact accuracy chats"]
    assert accuracy["items"] > 2
    for side in ("before", "after"):
        assert accuracy[side]["low"] <= accuracy[side]["value"] <= accuracy[side]["high"] < 1, side
        assert accuracy[side]["low"] < accuracy[side]["high"], side
    assert 0 <= accuracy["mcnemar_p"] <= 1
    results = tables.read(copy.folder / "data/results/rounds/r0.parquet", Result)
    answered = [result for result in results if (result.measure, result.domain) == ("exact accuracy", "chats")]
    expected = [result.expected for result in answered]
    assert len(expected) == accuracy["items"]
    assert all(re.fullmatch(r"Yes, \d+\.", text) for text in expected), (
        "the last of several answers is the one asked for"
    )
    assert "checked answers, per cent\n  exact accuracy" in (copy.folder / "data/report/summary.txt").read_text()


def test_mlflow_has_the_preference_accuracy(copy, rows):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{copy.folder / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    evaluated = next(run for run in runs if run.data.tags.get("dvc.stage") == "evaluate@r0")
    assert evaluated.data.metrics["preference_accuracy"] == pytest.approx(
        rows["preference accuracy"]["after"]["value"], abs=1e-6
    )
