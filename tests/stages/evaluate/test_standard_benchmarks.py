"""Standard benchmarks are measured only as the settings pin them, each figure with its interval."""

import json
from types import SimpleNamespace

import pytest
import torch

from tasks.io import harness, provenance
from tasks.stages.evaluate import standard_benchmarks
from tasks.stages.evaluate.config import EvaluateConfig, Harness
from tests import tiny as small


@pytest.fixture
def measure(monkeypatch):
    """Return the measures for these scores of the harness, and the arguments that it was called with."""
    arguments = {}

    def run(model, tokenizer, tasks, **options):
        arguments.update(options, tasks=tasks)
        return [harness.Score("arc acc", 0.5, 0.1, 11), harness.Score("ppl word", 12.5, 0.0, 11)]

    def of(family="llama", **config):
        model = SimpleNamespace(config=SimpleNamespace(model_type=family))
        evaluate_config = EvaluateConfig(harness=Harness.model_validate({"tasks": ["arc"]} | config), seed=3)
        return standard_benchmarks.measure(model, None, evaluate_config.harness, evaluate_config), arguments

    monkeypatch.setattr(standard_benchmarks, "use_own_attention", lambda model: None)
    monkeypatch.setattr(harness, "run", run)
    monkeypatch.setattr(harness, "version", lambda: "1.2")
    return of


def test_figures_carry_intervals_and_the_version_of_the_harness(measure):
    figures, arguments = measure(limit=7, batch_size=2)
    assert figures["version"] == "1.2"
    half = 0.222814  # Student's t of 10 degrees at 97.5 %, times 0.1
    expected = {
        "value": 0.5,
        "low": pytest.approx(0.5 - half),
        "high": pytest.approx(0.5 + half),
        "n": 11,
        "error": 0.1,
    }
    assert figures["scores"]["arc acc"] == expected
    assert figures["scores"]["ppl word"] == {"value": 12.5, "low": None, "high": None, "n": 11, "error": 0.0}
    assert json.loads(json.dumps(figures)) == figures
    assert (arguments["limit"], arguments["batch_size"], arguments["seed"], arguments["include"]) == (7, 2, 3, None)


@pytest.mark.parametrize("name", ["rwkv", "recurrent_gemma", "xlstm", "mamba", "qwen3_5_text", "lfm2"])
@torch.no_grad()
def test_a_family_whose_states_take_in_padding_is_asked_one_prompt_at_a_time(name, measure):
    further = {
        "rwkv": {"attention_hidden_size": 32},
        "recurrent_gemma": {"head_dim": 8, "lru_width": 32, "block_types": ["recurrent", "attention"]},
        "xlstm": {"hidden_size": 128, "num_heads": 4, "qk_dim_factor": 0.5, "v_dim_factor": 1.0},
    }
    model = small.family(name, **small.ALONE.get(name, {}) | further.get(name, {}))
    ids, padding = torch.arange(5, 9)[None], torch.zeros(1, 8, dtype=torch.long)
    seen = torch.cat([padding, torch.ones_like(ids)], dim=1)
    padded = model(input_ids=torch.cat([padding, ids], dim=1), attention_mask=seen).logits[0, -1]
    takes_in = not torch.allclose(padded, model(input_ids=ids).logits[0, -1], rtol=0, atol=1e-3)
    assert measure(name, batch_size=8)[1]["batch_size"] == (1 if takes_in else 8)


def test_a_folder_of_tasks_is_used_only_as_it_was_pinned(measure, tmp_path):
    folder = tmp_path / "own"
    with pytest.raises(ValueError, match=r"there is no folder .*own"):
        measure(include=folder)
    folder.mkdir()
    (folder / "task.yaml").write_text("task: own\n")
    with pytest.raises(
        ValueError, match=r"does not hold what .*digest names \(nothing\)\. .*write `digest: ([0-9a-f]+)`"
    ) as caught:
        measure(include=folder)
    digest = str(caught.value).split("`digest: ")[1].split("`")[0]
    assert measure(include=folder, digest=digest)[1]["include"] == folder
    (folder / "rows.jsonl").write_text("{}\n")
    assert provenance.digest(folder) != digest
    with pytest.raises(ValueError, match="does not hold what"):
        measure(include=folder, digest=digest)
