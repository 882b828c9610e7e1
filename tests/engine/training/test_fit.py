"""Each selector's training is counted before it is begun."""

import json
from dataclasses import replace

import pytest

from tasks import methods
from tasks.engine.training import fit
from tests.methods import contract

SELECTORS = methods.names("selectors")


def sections(name):
    """The settings of a selector's own tests, which suit a tiny model."""
    return {name: contract.said(name, "SMALL", {})}


@pytest.mark.parametrize("name", SELECTORS)
def test_the_count_is_that_of_a_training(tiny, name):
    size = fit.fit(tiny, name, sections(name))
    parts = contract.composition(selectors=name)
    if size.adapter == "lora":
        config = methods.spec("adapters", "lora").config()
        parts = replace(parts, adapter=replace(contract.part("adapters", "lora"), config=config))
    attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
    contract.steps(attached, optimizer, parts, count=1)
    assert size.trains == sum(p.numel() for p in attached.trainable.values())
    assert size.at_once == sum(p.numel() for p in attached.trainable.values() if p.requires_grad)
    assert size.optimizer_bytes == 4 * size.at_once + 8 * size.trains
    assert size.checkpoint_bytes >= 12 * size.trains
    assert size.saved_bytes in (4 * size.trains, 8 * size.trains)


def test_the_command_shows_a_row_for_each_and_the_reason_where_one_cannot(tiny, tmp_path, monkeypatch, capsys):
    from flows.commands.methods import methods as command

    monkeypatch.chdir(tmp_path)
    report = command(["all", "neuroada", "ist"], fit=tiny)
    said = capsys.readouterr().out
    assert [row.selector for row in report.fit] == ["all", "ist", "neuroada"]
    assert "gradients and AdamW" in said
    assert "ist.sets is 3, and 2 layers with an adapter" in said
    assert report.fit[2].trains < report.fit[0].trains
    json.dumps([vars(row) for row in report.fit])
    with pytest.raises(ValueError, match="--fit is about selectors"):
        command(["lora"], fit=tiny)
