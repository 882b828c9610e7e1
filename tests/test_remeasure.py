"""Losses are measured again without an answer that is generated."""

from tasks import remeasure
from tasks.core.compute import Compute
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig


def test_nothing_but_losses_is_measured_and_no_server_is_asked():
    everything = {
        "gate_items": 9,
        "samples": 9,
        "ks": [1],
        "human_eval": 9,
        "judge": {"url": "http://127.0.0.1:9/v1", "model": "judge"},
        "tests": {},
        "tools": {"path": "tools.py"},
        "strength": {},
        "harness": {"tasks": ["arc_easy"]},
    }
    config = StageConfig(compute=Compute(), evaluate=EvaluateConfig.model_validate(everything), methods={})
    left = remeasure._as_recorded(config, "float32")
    assert left.compute.precision == "float32"
    of_items = {
        name: number for name, number in left.evaluate if name.endswith("_items") or name in ("samples", "human_eval")
    }
    assert set(of_items.values()) == {0}
    others = ("judge", "tests", "tools", "strength", "harness", "server", "facts")
    assert [getattr(left.evaluate, name) for name in others] == [None] * len(others)
