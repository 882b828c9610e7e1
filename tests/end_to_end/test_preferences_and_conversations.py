"""From files of one's own to a report, offline: preference pairs, and conversations of several turns that call a tool, in one workspace."""

import json
import shutil

import pytest
import yaml

from tests.engine.chat_templates import FAMILIES

ROWS = 24
ADD = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
RUNS = {"cross_entropy": ("dvc", "repro", "--quiet"), "dpo": ("flows.pipeline",)}
"""Objectives, and the driver that each run is given to."""


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
def copy(workspace, tmp_path_factory):
    """A workspace into which both files were taken by `ratchet init`."""
    copy, own = workspace("micro"), tmp_path_factory.mktemp("own")
    params = copy.folder / "params.yaml"
    copy.said, sources = {}, []
    for name, rows in (("pairs", pairs()), ("chats", chats())):
        file = own / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        copy.said[name] = copy.run("flows.commands", "init", str(file))
        sources += yaml.safe_load(params.read_text())["ingest"]["sources"]
    config = yaml.safe_load(params.read_text())
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
def trained(copy, refusal):
    """The summary and the course of the training by each objective, with a template that can say tools."""
    params, model = copy.folder / "params.yaml", copy.folder / "params/micro-data/model"
    shutil.copytree(model, model.with_name("model-with-tools"))
    (model.with_name("model-with-tools") / "chat_template.jinja").write_text(FAMILIES["qwen2.5"].template)
    config = yaml.safe_load(params.read_text())
    config["fetch"]["model"]["path"] += "-with-tools"
    made = {}
    for objective, driver in RUNS.items():
        config["tune"]["objective"] = objective
        config["methods"][objective] = {}
        params.write_text(yaml.safe_dump(config))
        copy.run(*driver)
        report, course = copy.folder / "data/report", copy.folder / "models/tuned/r0/training.json"
        made[objective] = {
            "text": (report / "summary.txt").read_text(),
            "page": (report / "index.html").read_text(),
            "rows": {
                row["measure"]: row
                for row in json.loads((report / "summary.json").read_text())["comparisons"]["r0"]["rows"]
            },
            "course": json.loads(course.read_text()),
        }
    return made


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
        "the chat template of the model cannot say this conversation: it leaves out the schemas of the tools." in said
    )


@pytest.mark.parametrize("objective", RUNS)
def test_the_report_has_losses_and_preference_accuracy_with_intervals(trained, objective):
    rows, text = trained[objective]["rows"], trained[objective]["text"]
    for measure in ("domain", "preference accuracy"):
        for side in ("before", "after", "difference"):
            figures = rows[measure][side]
            assert figures["low"] <= figures["value"] <= figures["high"], (measure, side)
    preferred = rows["preference accuracy"]
    assert preferred["items"] > 2
    assert preferred["after"]["low"] < preferred["after"]["high"]
    assert 0 <= preferred["mcnemar_p"] <= 1
    assert rows["domain"]["items"] > preferred["items"], "conversations are measured beside the pairs"
    assert "preferences, per cent\n  preference accuracy" in text
    assert "preference accuracy" in trained[objective]["page"]


def test_dpo_trains_on_the_pairs_alone_and_begins_at_log_two(trained):
    (_, _, first), *_ = trained["dpo"]["course"]["loss"]
    assert first == pytest.approx(0.6931, abs=1e-3), "log 2: the model is its own reference before the first step"
    assert trained["dpo"]["course"]["composition"]["objective"] == "dpo"
    assert trained["dpo"]["course"]["tokens"] < trained["cross_entropy"]["course"]["tokens"]


def test_mlflow_has_the_preference_accuracy(copy, trained):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{copy.folder / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    evaluated = next(run for run in runs if run.data.tags.get("dvc.stage") == "evaluate@r0")
    assert trained["dpo"]["rows"]["preference accuracy"]["after"]["value"] == pytest.approx(
        evaluated.data.metrics["preference_accuracy"], abs=1e-6
    )
