"""What a training takes of memory is counted once, remembered, and said by plan and doctor."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from flows.commands import doctor
from flows.execution import resources
from flows.execution.cost import memory_counts, remembered, workload
from flows.execution.cost.estimates import MB, Range, StageEstimate
from tasks import configuration
from tests.flows.conftest import ROOT

COUNT = {"tensors": 600_000_000, "process": 300_000_000, "holes": 100_000_000}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Puts profile `micro` in place, some settings of `tune` changed, and its base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(ROOT / "params/micro-data/model", tmp_path / "models/base")

    def use(**changes):
        tree = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
        tree["tune"] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return configuration.load()

    return use


@pytest.fixture
def counted(monkeypatch):
    """The stages that were counted; each takes 1 GB."""
    stages = []

    def count(_module, stage, _folder, *, patience_s):
        stages.append(stage)
        return dict(COUNT)

    monkeypatch.setattr(remembered, "printed", count)
    return stages


def test_the_count_is_that_of_the_training_in_a_process_of_its_own(profile, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = profile()
    count = memory_counts.of("tune", config)
    from tasks.engine.training import fit

    sections = configuration.for_stage("tune", config).methods
    expected = fit.fit(ROOT / "params/micro-data/model", config.tune, sections)
    assert count.tensors == expected.memory_bytes
    assert count.holes == pytest.approx(0.25 * expected.step_bytes, abs=1)  # the profile computes in fp32
    assert 0 < expected.step_bytes < expected.memory_bytes
    assert 100 * MB < count.process < 3000 * MB


def test_a_training_is_counted_once_and_anew_where_its_memory_changes(profile, counted):
    config = profile()
    assert [memory_counts.of("tune", config).total for _ in range(2)] == [1_000_000_000] * 2
    assert counted == ["tune"]
    for changes in ({"pack_tokens": 1024}, {"activation_checkpointing": True}, {"accumulation": 2}):
        memory_counts.of("tune", profile(**changes))
    assert counted == ["tune"] * 4


def test_a_count_of_an_earlier_form_is_made_anew(profile, counted):
    config = profile()
    memory_counts.of("tune", config)
    file = remembered.cache_file("memory_counts.json")
    file.write_text(file.read_text().replace('"process"', '"beside"'))
    assert memory_counts.of("tune", config).total == 1_000_000_000
    assert counted == ["tune"] * 2


@pytest.mark.parametrize(
    ("card", "counts"),
    [({"parent": "new"}, True), ({"weights": "new"}, True), ({}, True), ({"parent": "old", "weights": "new2"}, False)],
)
def test_a_model_that_was_made_of_the_base_before_is_not_counted(profile, card, counts):
    config = profile()
    own = Path(configuration.declaration("tune").reads["base"])
    shutil.copytree(workload.BASE, own)
    for folder, facts in ((workload.BASE, {"weights": "new"}), (own, card)):
        (folder / "ratchet.json").write_text(json.dumps(facts))
    assert memory_counts._base("tune", config.fetch.model.model_dump()) == (own if counts else workload.BASE)


def test_what_cannot_be_counted_is_not(profile, counted, monkeypatch):
    assert memory_counts.of("tune", profile(max_tokens=0)) is None
    monkeypatch.setattr(memory_counts, "COPIES", 1e12)
    assert memory_counts.of("tune", profile()) is None
    monkeypatch.setattr(memory_counts, "COPIES", 0)
    shutil.rmtree("models/base")
    assert memory_counts.of("tune", profile()) is None
    assert counted == []


def test_a_plan_has_the_count_where_no_run_with_these_settings_tells(profile, counted):
    known = StageEstimate(Range(1, 2), Range(3, 4), None, "equal settings", 1)
    guessed = StageEstimate(Range(1, 2), Range(30, 4000), None, "machine speed", 0)
    estimates = {"tune@r0": guessed, "tune@r1": known, "evaluate@r0": guessed}
    refined = memory_counts.refined(estimates, profile())
    megabytes = 1_000_000_000 / MB
    assert refined["tune@r0"].memory_mb == Range(pytest.approx(0.85 * megabytes), pytest.approx(1.15 * megabytes))
    assert refined["tune@r1"] == known
    assert refined["evaluate@r0"] == guessed


@pytest.mark.parametrize(("nodes", "here"), [(1, 4), (2, 2)])
def test_processes_on_a_cpu_take_as_much_each_and_those_of_other_machines_none_here(profile, counted, nodes, here):
    profile()
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["compute"]["processes"] = 4
    tree["resources"] = {"tune": {"nodes": nodes}}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    config = configuration.load()
    guessed = StageEstimate(Range(1, 2), Range(30, 4000), None, "machine speed", 0)
    memory = memory_counts.refined({"tune@r0": guessed}, config)["tune@r0"].memory_mb
    assert memory.low == pytest.approx(0.85 * here * 1_000_000_000 / MB)
    (_, tune) = doctor.doctor(memory=True, as_json=True).findings
    assert f"takes about {here}.00 GB of memory" in tune.what


def test_the_doctor_says_what_each_training_takes_and_what_would_take_less(profile, counted, monkeypatch):
    profile()
    (pretrain, tune) = doctor.doctor(memory=True, as_json=True).findings
    assert pretrain.what == "pretrain trains nothing (max_tokens: 0)"
    assert tune.what.startswith("tune (adamw × cross_entropy) takes about 1.00 GB of memory; this machine has")
    assert (tune.state, tune.fix) == ("good", "")
    monkeypatch.setattr(resources, "machine", lambda: resources.Machine(cores=1, memory_gb=0.5))
    (_, tune) = doctor.doctor(memory=True, as_json=True).findings
    assert tune.state == "limited"
    assert "tune.activation_checkpointing: true" in tune.fix
    assert "tune.optimizer: zo2" in tune.fix
