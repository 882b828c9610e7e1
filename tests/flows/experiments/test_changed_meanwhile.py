"""Settings, data and code that change while trials run, and other commands beside: no table holds trainings that are not to be compared."""

import json
import shutil
from types import SimpleNamespace

import pytest
import yaml

from flows.experiments import search, trial_store, trials
from flows.experiments.recipes import Trial
from flows.experiments.sweeps import samplers
from flows.experiments.sweeps import sweep as sweeps
from tasks import configuration
from tests.flows.experiments.test_sweep import RATE, made, rate


def test_settings_that_are_edited_while_a_sweep_works_change_no_trial_that_comes(settings, trainings):
    def loss(sections):
        settings.write_text(settings.read_text().replace("domain_tokens: 1000", "domain_tokens: 77"))
        return rate(sections)

    ran = trainings(loss)
    before = settings.read_text()
    sweep = made(f"{RATE}=0.1,0.2")
    rows = sweeps.run(sweep, "parent")
    shutil.rmtree(rows[0].folders[0] / "model")
    sweeps.measure(sweep, rows[0], "parent")
    assert settings.read_text() != before
    assert len(ran) == 4
    assert len({json.dumps(sections["evaluate"]) for sections in ran}) == 1


@pytest.mark.parametrize("when", [1, 3])
def test_data_that_change_while_a_sweep_works_are_never_told_with_those_of_before(settings, trainings, when):
    read = settings.parent / "data/rounds/r0/examples.parquet"

    def loss(sections):
        if len(ran) == when:
            read.write_text("other")
        return rate(sections) if read.read_text() == "x" else 9.0

    ran, sweep = [], made(f"{RATE}=0.1,0.2,0.3")
    ran = trainings(loss)
    with pytest.raises(ValueError, match=r"its data or its code have changed since it was planned.* The same command"):
        sweeps.run(sweep, "parent")
    assert len(ran) == when
    read.write_text("x")
    assert [row.values for row in sweeps.run(sweep, "parent")] == [[0.1], [0.2], [0.3]]


def test_a_winner_is_not_tested_by_other_data_than_it_was_chosen_by(settings, trainings):
    ran = trainings(rate)
    sweep = made(f"{RATE}=0.1,0.2")
    rows = sweeps.run(sweep, "parent")
    (settings.parent / "data/rounds/r0/examples.parquet").write_text("other")
    with pytest.raises(ValueError, match="have changed since it was planned"):
        sweeps.measure(sweep, rows[0], "parent")
    assert len(ran) == 2


def test_a_comparison_measures_nothing_on_other_data_than_its_rates_were_chosen_by(settings, trainings, recipe):
    ran = trainings(rate)
    results = trials.execute(recipe, "x", search.grid(recipe)[:2], "parent")
    (settings.parent / "data/rounds/r0/examples.parquet").write_text("other")
    with pytest.raises(ValueError, match="have changed since it was planned"):
        trials.execute(recipe, "x", [Trial("lora", 1e-2, 0, False)], "parent", results.values())
    assert len(ran) == 2


def test_an_optimiser_proposes_nothing_from_losses_on_other_data(settings, trainings, monkeypatch):
    trainings(rate)
    sweep = made(f"{RATE}=0.1,0.2,0.3")
    points = samplers.grid(sweep.axes)
    batches = iter([points[:2], points[2:], []])

    def ask():
        (settings.parent / "data/rounds/r0/examples.parquet").write_text("x" if len(asked) < 1 else "other")
        asked.append(next(batches))
        return asked[-1]

    asked = []
    monkeypatch.setattr(samplers, "make", lambda *_: SimpleNamespace(ask=ask, tell=lambda _: None))
    with pytest.raises(ValueError, match="have changed since it was planned"):
        sweeps.run(sweep, "parent")


def test_a_trial_has_its_own_settings_where_another_command_plans_one_meanwhile(settings, trainings, monkeypatch):
    sweep, load, planned = made(f"{RATE}=0.1,0.2"), configuration.load, []
    folders = {one: trial_store.write_folder(sweeps.plan(sweep, {RATE: one}, 0)) for one in (0.1, 0.2)}

    def beside(path=configuration.PARAMS):
        if path.name == trial_store.SETTINGS and not planned:
            planned.append(path)
            trial_store.write_folder(sweeps.plan(sweep, {RATE: 0.2}, 0))
        return load(path)

    monkeypatch.setattr(configuration, "load", beside)
    assert trial_store.write_folder(sweeps.plan(sweep, {RATE: 0.1}, 0)) == folders[0.1]
    assert [rate(yaml.safe_load((folders[one] / "params.yaml").read_text())) for one in folders] == [0.1, 0.2]


def test_the_settings_of_a_trial_that_are_refused_stand_in_the_file_that_is_named(settings, recipe):
    wrong = recipe.model_copy(update={"changes": {"tune": {"warmup": 7.0}}})
    with pytest.raises(ValueError, match=r"^\.ratchet/compare/settings\.yaml:(\d+): tune\.warmup: ") as told:
        trials.write_folder(wrong, "wrong", Trial("lora", 1e-3, 0, False))
    line = int(str(told.value).split(":")[1])
    assert "warmup: 7.0" in (trial_store.FOLDER / trial_store.SETTINGS).read_text().splitlines()[line - 1]
