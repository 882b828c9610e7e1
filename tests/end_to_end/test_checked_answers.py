"""From files of one's own to a report with accuracies: numbers, multiple choice, labels and JSON in one workspace, offline."""

import json

import pytest
import yaml

ROWS = 32
COLOURS = ["red", "blue"]


def rows(kind):
    """Rows as people have them: GSM8K's, a column of options, few labels, JSON."""
    for n in range(ROWS):
        if kind == "number":
            yield {
                "question": f"Ann has {n} and {n + 2}?",
                "answer": f"{n}+{n + 2} = <<{n}+{n + 2}={2 * n + 2}>>\n#### {2 * n + 2}",
            }
        elif kind == "choice":
            yield {"question": f"Which is {n}?", "choices": [str(n), str(n + 1), "none"], "answer": n % 3}
        elif kind == "labels":
            yield {"prompt": f"Colour of thing {n}?", "completion": COLOURS[n % 2]}
        else:
            yield {"instruction": f"Order {n} of tea", "output": json.dumps({"item": "tea", "n": n})}


@pytest.fixture(scope="module")
def judged(workspace, prefect, tmp_path_factory):
    """A workspace into which the four files were taken by `ratchet init`, after a run."""
    copy, own = workspace("micro", PREFECT_API_URL=prefect), tmp_path_factory.mktemp("own")
    params = copy.folder / "params.yaml"
    copy.sources, copy.said = [], {}
    for kind in ("number", "choice", "labels", "json"):
        file = own / f"{kind}s.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(kind)))
        copy.said[kind] = copy.run("flows.commands", "init", str(file))
        copy.sources += yaml.safe_load(params.read_text())["ingest"]["sources"]
    config = yaml.safe_load(params.read_text())
    config["ingest"]["sources"] = copy.sources
    config["ingest"]["splits"]["by"] = (
        "size"  # 32 rows of a kind: by name a kind may have too few test items for an interval
    )
    config["evaluate"] |= {"max_new_tokens": 8, "max_tokens": 512, "answer_items": 6, "batch_size": 4}
    config["rounds"], config["turns"] = {"r0": {}}, {}
    config["models"] = {
        "base": {"group": "reference", "path": "models/base", "base": "models/base"},
        "r0": {"group": "rounds", "path": "models/tuned/r0", "base": "models/pretrained"},
    }
    params.write_text(yaml.safe_dump(config))
    copy.run("flows.pipeline")
    return copy


def test_init_proposes_a_check_for_each_file_and_says_why(judged):
    checks = [source["check"] for source in judged.sources]
    assert checks == [
        "number",
        {"kind": "choice", "options": "choices"},
        {"kind": "labels", "labels": ["blue", "red"]},
        "json",
    ]
    assert f"{ROWS} of {ROWS} answers end in `#### NUMBER`" in judged.said["number"]
    assert f"{ROWS} answers are 2 labels (red 16, blue 16)" in judged.said["labels"]


def test_the_report_has_every_accuracy_with_its_interval(judged):
    text = (judged.folder / "data/report/summary.txt").read_text()
    assert "checked answers, per cent" in text
    summary = json.loads((judged.folder / "data/report/summary.json").read_text())
    measured = {row["measure"]: row for row in summary["comparisons"]["r0"]["rows"]}
    for measure in (
        "number accuracy", "choice accuracy", "choice acc", "choice acc_norm", "labels accuracy", "labels macro-F1", "json score",
    ):  # fmt: skip
        row = measured[measure]
        assert row["items"] > 2, measure
        assert row["after"]["low"] <= row["after"]["value"] <= row["after"]["high"], measure
        assert measure in text
        assert measure in (judged.folder / "data/report/index.html").read_text()


def test_mlflow_has_the_accuracies(judged):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{judged.folder / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    evaluated = next(run for run in runs if run.data.tags.get("dvc.stage") == "evaluate@r0")
    assert {"number_accuracy", "choice_acc_norm", "labels_macro_F1", "json_score"} <= evaluated.data.metrics.keys()
