"""A promoted model is measured anew as stage `evaluate` measured it."""

import shutil

import pytest
import yaml

from tasks import configuration, gate_eval
from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.compute import Compute
from tasks.core.records import CONDITIONS, Document, Example, Result
from tasks.io import tables
from tasks.stages.evaluate import stage
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig
from tests import tiny as small
from tests.support import ScratchRun
from tests.test_configuration import ROOT


def test_the_results_are_those_that_the_stage_has(tiny, tmp_path):
    shutil.copyfile(ROOT / "params/micro.yaml", tmp_path / "params.yaml")
    rows = {
        split: [small.example(n, split=split) for n in numbers] for split, numbers in (("test", (1,)), ("gate", (2, 3)))
    }
    for split, examples in rows.items():
        tables.write(tmp_path / f"data/ingested/{split}.parquet", examples, Example)
        tables.write(tmp_path / f"data/ingested/{split}_documents.parquet", [], Document)
    (tmp_path / "data/review_items.jsonl").touch()
    reads = configuration.declaration("evaluate").reads
    inputs = {name: tmp_path / path for name, path in reads.items()} | {"model": tiny, "base": tiny}
    outputs = {name: tmp_path / f"{name}.out" for name in ("metrics", "results", "gate")}
    stage.main(inputs, outputs, configuration.for_stage("evaluate", configuration.load()), ScratchRun(tmp_path, "r0"))
    conditions = tables.facts_of(outputs["gate"])[CONDITIONS]
    changed = yaml.safe_load((tmp_path / "params.yaml").read_text())

    def measure(name, **settings):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed | {"evaluate": changed["evaluate"] | settings}))
        gate_eval.main(tiny, tiny, tmp_path / name, conditions)
        return tables.read(tmp_path / name, Result), tables.facts_of(tmp_path / name)

    found, facts = measure("again.parquet")
    assert (found, facts[CONDITIONS]) == (tables.read(outputs["gate"], Result), conditions)
    assert [row.item for row in found] == [row.id for row in rows["gate"]]
    away = {"url": "http://127.0.0.1:9/v1", "model": "{item}"}
    of_no_item = measure("of_no_item.parquet", answer_items=3, confidence=0.9, server=away)
    assert of_no_item == (found, facts), "and the server, which knows no version, is not asked"
    with pytest.raises(
        ValueError, match=r"those with which the candidate was measured\. `ratchet run` measures it again"
    ):
        measure("other.parquet", max_new_tokens=7)
    assert not (tmp_path / "other.parquet").exists()


def test_another_check_is_another_way_to_measure(tmp_path):
    """An example keeps its id under another check, whose grades are others."""

    def conditions(check, count=2, items=4):
        tests = registry.tests(registry.parse(check), Row("", "4"))
        rows = [small.example(n, response="4", split="gate", tests=tests) for n in range(count)]
        tables.write(tmp_path / "gate.parquet", rows, Example)
        config = StageConfig(compute=Compute(), evaluate=EvaluateConfig(gate_items=items), methods={})
        return stage._gate_facts(config, tmp_path / "gate.parquet")[CONDITIONS]

    strict, tolerant = {"kind": "number"}, {"kind": "number", "tolerance": 1}
    assert conditions(strict) == conditions(strict, count=5) != conditions(tolerant)
    assert conditions(strict, items=0) == conditions(tolerant, items=0), "nothing is checked"
