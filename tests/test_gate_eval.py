"""A promoted model is measured anew as stage `evaluate` measured it."""

import shutil

import yaml

from tasks import configuration, gate_eval
from tasks.core.records import CONDITIONS, Document, Example, Result
from tasks.io import tables
from tasks.stages.evaluate import stage
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
    gate_eval.main(tiny, tiny, tmp_path / "again.parquet")

    reads = configuration.declaration("evaluate").reads
    inputs = {name: tmp_path / path for name, path in reads.items()} | {"model": tiny, "base": tiny}
    outputs = {name: tmp_path / f"{name}.out" for name in ("metrics", "results", "gate")}
    stage.main(inputs, outputs, configuration.for_stage("evaluate", configuration.load()), ScratchRun(tmp_path, "r0"))
    found = tables.read(tmp_path / "again.parquet", Result)
    assert found == tables.read(outputs["gate"], Result)
    conditions = tables.facts_of(outputs["gate"])[CONDITIONS]
    assert tables.facts_of(tmp_path / "again.parquet")[CONDITIONS] == conditions
    changed = yaml.safe_load((tmp_path / "params.yaml").read_text())
    for settings, is_same in (({"answer_items": 3, "confidence": 0.9}, True), ({"max_new_tokens": 7}, False)):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed | {"evaluate": changed["evaluate"] | settings}))
        gate_eval.main(tiny, tiny, tmp_path / "changed.parquet")
        assert (tables.facts_of(tmp_path / "changed.parquet")[CONDITIONS] == conditions) == is_same
    assert [row.item for row in found] == [row.id for row in rows["gate"]]
