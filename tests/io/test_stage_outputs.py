"""Outputs of a stage are put in place together or not at all."""

import pytest

from tasks.io import stage_outputs


def test_a_stage_that_forgets_an_output_leaves_those_of_before(tmp_path):
    writes = {name: tmp_path / name for name in ("first", "second")}
    for path in writes.values():
        path.write_text("old")
    partial = stage_outputs.prepare(writes)
    partial["first"].write_text("new")
    with pytest.raises(RuntimeError, match=r"without writing \S+/second\. Outputs of an earlier run stay"):
        stage_outputs.publish(partial, writes)
    assert [path.read_text() for path in writes.values()] == ["old", "old"]
