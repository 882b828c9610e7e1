"""What a stage will take: from what it took, else from tokens × parameters; and where a figure comes from."""

from pathlib import Path

import pytest
import yaml

from flows.execution import estimates
from flows.execution.estimates import Range, as_size, as_time
from tasks import configuration, runner
from tasks.io import provenance
from tasks.io.runs import run_history, tracking
from tasks.io.runs.run_history import Past
from tests.flows.conftest import ROOT

NOW = {"tune.max_tokens": "1000", "tune.seed": "0", "tune.adapter": "lora"}


def past(seconds, memory=None, **changes):
    return Past(NOW | {f"tune.{name}": str(value) for name, value in changes.items()}, "m", seconds, memory, None)


def test_equal_settings_come_first_and_the_range_spans_their_latest_runs():
    runs = [past(9, seed=1), past(4, memory=300), past(6), past(5), past(5), past(5), past(99)]
    found = estimates.from_runs("tune", NOW, runs)
    assert (found.seconds, found.memory_mb, found.disk_mb) == (Range(4, 6), Range(300, 300), None)
    assert (found.source, found.runs) == ("equal settings", 5)


def test_other_settings_are_scaled_with_the_tokens_and_the_range_holds_both_extremes():
    found = estimates.from_runs("tune", NOW, [past(30, max_tokens=500), past(3, max_tokens=500, seed=1)])
    assert (found.seconds, found.source, found.runs) == (Range(30, 60), "other settings", 1)


def test_a_setting_that_changes_no_tokens_leaves_the_figure():
    assert estimates.from_runs("tune", NOW, [past(30, seed=7)]).seconds == Range(30, 30)


def test_a_pass_through_is_not_scaled_to_a_training():
    assert estimates.from_runs("tune", NOW, [past(1, max_tokens=0)]).seconds == Range(1, 1)


@pytest.fixture
def profile(tmp_path):
    """Puts a profile's settings in place, some sections changed."""

    def use(name, **sections):
        tree = yaml.safe_load((ROOT / f"params/{name}.yaml").read_text())
        for section, changes in sections.items():
            tree[section] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return configuration.load()

    return use


def model_of(stage, everything):
    now = {name: str(value) for name, value in runner.as_recorded(configuration.for_stage(stage, everything)).items()}
    return estimates.from_model(stage, now, everything)


def test_without_runs_more_tokens_and_more_parameters_take_longer(profile, monkeypatch):
    monkeypatch.setattr(estimates, "_speed", lambda _threads: 1e9)
    small = model_of("tune", profile("tiny"))
    long = model_of("tune", profile("tiny", tune={"max_tokens": 600_000}))
    large = model_of("tune", profile("lab", tune={"max_tokens": 60_000}))
    assert small.source == "tokens × parameters"
    assert long.seconds.high > 5 * small.seconds.high
    assert large.seconds.high > small.seconds.high
    assert large.memory_mb.high > small.memory_mb.high


def test_an_adapter_takes_less_memory_and_disk_than_the_whole_model(profile):
    adapter = model_of("tune", profile("lab"))
    whole = model_of("tune", profile("lab", tune={"adapter": "none"}))
    assert adapter.memory_mb.high < whole.memory_mb.high
    assert adapter.disk_mb.high < whole.disk_mb.low


def test_what_passes_through_takes_next_to_nothing(profile):
    through = profile("tiny", pretrain={"max_tokens": 0, "expander": "none"})
    assert model_of("pretrain", through).seconds.high <= estimates.IDLE_S[1]


def test_where_nothing_is_known_nothing_is_said(profile):
    everything = profile("workstation")
    assert model_of("ingest", everything) is None  # its time follows from the data
    assert model_of("tune", everything) is None  # how large the package's model is, nobody knows before it is there
    assert model_of("tune", profile("gpu-7b")) is None  # how fast a GPU is, neither


def test_the_name_of_a_model_may_tell_its_parameters():
    assert estimates._parameters({"from": "hub", "id": "Qwen/Qwen2.5-Coder-7B-Instruct"}) == 7e9
    assert estimates._parameters({"from": "folder", "path": "../SmolLM2-135M"}) == 135e6


def record(stage, values, machine=None, **facts):
    kind = " · ".join(f"{part} {value}" for part, value in provenance.machine_class().items())
    recorder = tracking.Recorder(stage, tags={"dvc.stage": stage, "ratchet.key": "k", "machine": machine or kind})
    recorder.params(**values, **facts)
    recorder.metrics({"peak_memory_mb": 512.0, "output_mb": 7.0})
    recorder.end("FINISHED", wait=True)


def test_runs_of_mlflow_stand_behind_a_figure_whichever_item_they_are_of(profile, store):
    everything = profile("micro")
    own = runner.as_recorded(configuration.for_stage("tune", everything))
    record("tune@r0", own)
    record("tune@r7", own, machine="another class of machine")
    record("tune@r0", own, taken_over_from="tune@r1")
    found = estimates.for_stages(["tune@r1", "tune@r0", "select", "shell"])
    assert found["tune@r1"] == found["tune@r0"]
    assert (found["tune@r1"].source, found["tune@r1"].runs) == ("equal settings", 1)
    assert (found["tune@r1"].memory_mb, found["tune@r1"].disk_mb) == (Range(512, 512), Range(7, 7))
    assert found.keys() == {"tune@r1", "tune@r0"}  # of the others nothing is known
    assert len(run_history.past(["tune"])["tune"]) == 2


def test_a_training_of_so_many_tokens_is_told_by_trainings_alone(profile, store):
    own = runner.as_recorded(configuration.for_stage("tune", profile("tiny")))
    record("tune@r0", own | {"tune.max_tokens": 0})  # passed through, in no time
    assert estimates.for_training("tune", 10**6).source == "tokens × parameters"
    record("tune@r0", own)
    longer, same = (estimates.for_training("tune", times * int(own["tune.max_tokens"])) for times in (10, 1))
    assert (longer.source, same.source) == ("other settings", "equal settings")
    assert longer.seconds.high == pytest.approx(10 * same.seconds.high)


@pytest.mark.parametrize("uri", ["sqlite:///not-made-yet.db", "nonsense://store"])
def test_without_a_store_that_answers_the_model_steps_in(profile, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    profile("tiny")
    assert estimates.for_stages(["tune@r0"])["tune@r0"].source == "tokens × parameters"
    assert not Path("not-made-yet.db").exists()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(40.2, 69.8, "40–70 s"), (3, 3.2, "3 s"), (90, 250, "1.5–4.2 min"), (600, 1800, "10–30 min"), (3600, 7200, "1.0–2.0 h")],
)  # fmt: skip
def test_a_range_of_seconds_is_told_in_one_unit(low, high, said):
    assert as_time(Range(low, high)) == said


def test_a_range_of_megabytes_is_told_in_one_unit():
    assert [as_size(Range(*pair)) for pair in ((3, 3), (300, 800), (900, 3072))] == ["3 MB", "300–800 MB", "0.9–3.0 GB"]
