"""What is known to fail is found before anything runs."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

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
    if refused:
        with pytest.raises(
            ValueError, match=r"facts 1 and 2 answer 'Where is Eve\?' by 'Oslo' and by 'Rome'. Remove one"
        ):
            preflight._check_facts(steps, config)
    else:
        preflight._check_facts(steps, config)
