"""lm-evaluation-harness runs tasks over local rows, and gives the figures that can be worked out without it."""

import json
import math
import statistics

import pytest
import torch

from tasks.io import harness
from tests import tiny as small

ROWS = [
    {"question": f"Which of these is number {number}?", "options": ["one", "two two", f"{number}"], "right": number % 3}
    for number in range(12)
]
CHOICE = """
task: which
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: options
doc_to_target: right
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""

GROUP = """
group: both
task: [which, again]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
metadata: {version: 1.0}
"""


@pytest.fixture
def include(tmp_path):
    """A folder with one task and its rows."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "which.yaml").write_text(CHOICE.format(rows=rows))
    return folder


@pytest.fixture
def pair(tiny):
    """A model whose choices depend on the question."""
    return small.decided(tiny)


@torch.no_grad()
def right(pair, row):
    """Return whether the model alone finds the right option likeliest."""
    model, tokenizer = pair
    likelihoods = []
    for option in row["options"]:
        start = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
        end = tokenizer(f" {option}", add_special_tokens=False)["input_ids"]
        scores = model(input_ids=torch.tensor([start + end])).logits[0, len(start) - 1 : -1].log_softmax(dim=1)
        likelihoods.append(scores.gather(1, torch.tensor(end)[:, None]).sum().item())
    return float(likelihoods.index(max(likelihoods)) == row["right"])


def test_a_local_task_gives_what_the_model_alone_gives_without_a_network(pair, include):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    (score,) = harness.run(*pair, ["which"], include=include, batch_size=5)
    expected = [right(pair, row) for row in ROWS]
    assert 0 < sum(expected) < len(ROWS), "all alike would hide a mix-up"
    assert (score.name, score.items) == ("which acc", len(ROWS))
    assert score.value == pytest.approx(statistics.fmean(expected))
    assert score.error == pytest.approx(statistics.stdev(expected) / math.sqrt(len(ROWS)))
    (first,) = harness.run(*pair, ["which"], include=include, limit=5)
    assert (first.value, first.items) == (pytest.approx(statistics.fmean(expected[:5])), 5)


def test_a_group_with_figures_of_its_own_stands_for_its_tasks(pair, include):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    text = (include / "which.yaml").read_text()
    (include / "again.yaml").write_text(text.replace("task: which", "task: again"))
    (include / "both.yaml").write_text(GROUP)
    (score,) = harness.run(*pair, ["both"], include=include)
    assert (score.name, score.items) == ("both acc", 2 * len(ROWS))
    assert score.value == pytest.approx(statistics.fmean(right(pair, row) for row in ROWS))
    assert score.error > 0


def test_a_group_without_figures_is_told_by_its_tasks():
    results = {
        "some": {"alias": "some"},
        "one": {"sample_len": 3, "acc,none": 1.0},
        "two": {"sample_len": 3, "acc,none": 0.0},
    }
    evaluation = {"results": results, "group_subtasks": {"some": ["one", "two"]}}
    assert [score.name for task in harness.heads(evaluation) for score in harness.scores(task, results[task])] == [
        "one acc",
        "two acc",
    ]


def test_a_task_that_does_not_exist_is_refused_with_those_called_alike():
    with pytest.raises(
        ValueError, match=r"evaluate\.harness\.tasks: there is no task 'arc_esy'\. Did you mean arc_easy\?"
    ):
        harness.check_names(["which", "arc_esy"], ["which", "arc_easy"])
    with pytest.raises(ValueError, match="lm-eval ls tasks"):
        harness.check_names(["zzz"], ["which"])


def test_a_harness_that_is_not_installed_is_named_with_what_would_do(monkeypatch):
    def missing(name):
        raise harness.packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(harness.packages.metadata, "version", missing)
    with pytest.raises(ValueError, match=r"evaluate\.harness: .*'lm-eval' is not installed"):
        harness.run(None, None, ["which"])


def test_figures_are_read_with_their_errors_and_filters():
    figures = {
        "alias": "gsm8k",
        "sample_len": 7,
        "exact_match,strict": 0.25,
        "exact_match_stderr,strict": 0.1,
        "ppl,none": 3,
        "ppl_stderr,none": "N/A",
    }
    assert list(harness.scores("gsm8k", figures)) == [
        harness.Score("gsm8k exact_match (strict)", 0.25, 0.1, 7),
        harness.Score("gsm8k ppl", 3.0, 0.0, 7),
    ]
