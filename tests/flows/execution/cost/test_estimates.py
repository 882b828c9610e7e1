"""What a stage will take: from what it took, else from its work and the speed of the machine; and where a figure comes from."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from flows.execution.cost import estimates, machine_speed, memory_counts, workload
from flows.execution.cost.estimates import Range, as_size, as_time
from tasks import configuration, runner
from tasks.core.speed import Pace, Speed
from tasks.io import provenance
from tasks.io.runs import past_runs, tracking
from tasks.io.runs.past_runs import Past
from tests.flows.conftest import ROOT

SPEED = Speed(6.0, Pace(96, 4e10, 4e10), Pace(576, 1.4e11, 1.4e11), layer_s=0.002, bytes_per_s=2e10)
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


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """The speeds that were asked for; none is measured."""
    asked = []

    def measure(compute):
        asked.append(compute)
        return asdict(SPEED)

    monkeypatch.setattr(machine_speed, "_measure", measure)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    return asked


@pytest.fixture
def profile(tmp_path):
    """Puts a profile's settings in place, some sections changed."""

    def use(name, **sections):
        tree = yaml.safe_load((ROOT / f"params/{name}.yaml").read_text())
        for section, changes in sections.items():
            tree[section] = tree.get(section, {}) | changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return configuration.load()

    return use


def model_of(stage, everything):
    now = {name: str(value) for name, value in runner.as_recorded(configuration.for_stage(stage, everything)).items()}
    return estimates.from_speed(stage, now, everything, SPEED)


def test_without_runs_more_tokens_and_more_parameters_take_longer(profile):
    small = model_of("tune", profile("tiny"))
    long = model_of("tune", profile("tiny", tune={"max_tokens": 6_000_000}))
    large = model_of("tune", profile("lab", tune={"max_tokens": 60_000}))
    assert small.source == "machine speed"
    assert long.seconds.high > 5 * small.seconds.high
    assert large.seconds.high > small.seconds.high
    assert large.memory_mb.high > small.memory_mb.high


def test_an_adapter_takes_less_memory_and_disk_than_the_whole_model(profile):
    adapter = model_of("tune", profile("lab"))
    whole = model_of("tune", profile("lab", tune={"adapter": "none"}))
    assert adapter.memory_mb.high < whole.memory_mb.high
    assert adapter.disk_mb.high < whole.disk_mb.low


def test_without_gradients_weights_are_all_there_is(profile):
    alone = {"adapter": "none", "optimizer": "mezo"}
    config = profile("lab", tune=alone, methods={"mezo": {}})
    weights_mb = 4 * workload.base_shape(config.fetch.model.model_dump()).parameters / estimates.MB
    assert model_of("tune", config).memory_mb.low < estimates.IDLE_MB[0] + weights_mb
    assert model_of("tune", profile("lab", tune={"adapter": "none"})).memory_mb.low > 3 * weights_mb


def test_what_passes_through_takes_next_to_nothing(profile):
    through = profile("tiny", pretrain={"max_tokens": 0, "expander": "none"})
    assert model_of("pretrain", through).seconds.high <= estimates.IDLE_S[1]


def test_where_nothing_is_known_nothing_is_said(profile, measured):
    profile("gpu-7b")
    assert estimates.for_stages(["tune@r0"]) == {}  # how fast a GPU is, nobody measures
    assert measured == []
    rewritten = {"refine": {"generator": {"from": "local"}}}
    assert model_of("refine", profile("tiny", **rewritten)) is None  # how many examples a model writes, the data say
    assert workload.base_shape({"from": "folder", "path": "../my-model"}) is None


def test_the_first_estimates_of_tiny_are_what_its_stages_took(profile, monkeypatch):
    monkeypatch.setattr(
        estimates.client, "is_wanted", lambda: False
    )  # the run that is compared with had no fork server
    """The seconds that MLflow recorded on an Intel Xeon with AVX512, one thread a stage, with one other suite beside it."""
    took = {"fetch": 4.6, "ingest": 2.6, "pretrain": 7.4, "faults": 9.4, "tune": 7.6, "diagnose": 9.4, "refine": 7.0}
    took |= {"compress": 8.0, "evaluate": 12.4, "report": 1.4, "register": 0.9, "select": 0.6}
    found = {stage: model_of(stage, profile("tiny")).seconds for stage in took}
    middle = {stage: (seconds.low * seconds.high) ** 0.5 for stage, seconds in found.items()}
    assert all(0.5 < middle[stage] / took[stage] < 2 for stage in took), middle


def test_a_diagnosis_of_all_examples_reads_no_more_than_was_trained_on(profile):
    unlimited = model_of("diagnose", profile("tiny"))
    assert unlimited.seconds.high < 60  # it was 99 h by `max_tokens`, a thousand million


def test_a_diagnosis_by_fresh_tasks_writes_their_answers():
    probes = {"each": 10, "max_new_tokens": 5, "batch_size": 20}
    settings = {f"diagnose.probes.{name}": str(value) for name, value in probes.items()}
    work = workload.of("diagnose", {"diagnose.curator": "failures", "tune.max_tokens": "900000", **settings})
    assert (work.written, work.steps) == (workload.KINDS * 50, workload.KINDS * 50 / 20)
    assert work.read == workload.KINDS * 10 * workload.PROMPT_TOKENS


def test_a_profile_without_examples_scores_texts_alone(profile):
    without = workload.of(
        "evaluate", {"evaluate.domain_tokens": "900", "evaluate.text_tokens": "10", "ingest.sources": "()"}
    )
    assert (without.read, without.steps) == (40, 0)


def test_answers_that_a_server_writes_are_no_work_of_this_machine():
    settings = {"evaluate.domain_tokens": "900", "evaluate.pass_items": "10", "evaluate.max_new_tokens": "64"}
    on_server = settings | {"evaluate.server.url": "http://127.0.0.1:8000/v1"}
    own, served = workload.of("evaluate", settings), workload.of("evaluate", on_server)
    assert (own.written, served.written, served.steps) == (640, 0, 0)
    assert served.read == 1800 < own.read
    with_gate_set = workload.of("evaluate", on_server | {"evaluate.gate_items": "5"})
    assert with_gate_set.written == 320, "no server writes the answers of the gate set"


def test_a_training_that_measures_itself_more_often_takes_longer(profile):
    seldom, often = (model_of("tune", profile("lab", tune={"save_every": steps})) for steps in (0, 1))
    assert often.seconds.low > 1.5 * seldom.seconds.low


def test_a_stage_of_a_fork_server_starts_sooner(profile, monkeypatch):
    monkeypatch.setattr(estimates.client, "is_wanted", lambda: False)
    alone = model_of("compress", profile("tiny"))
    monkeypatch.setattr(estimates.client, "is_wanted", lambda: True)
    assert model_of("compress", profile("tiny")).seconds.high < alone.seconds.high / 2


@pytest.mark.parametrize(("processes", "nodes", "times"), [(2, 1, 1.8), (8, 1, 3.6), (8, 4, 7.2), (1, 1, 1)])
def test_processes_that_share_a_training_divide_its_time_where_they_have_cores(
    profile, monkeypatch, processes, nodes, times
):
    monkeypatch.setattr(machine_speed, "_cores", lambda: 4)
    compute = {"threads": 1, "device": "cpu"}
    long = {"max_tokens": 10**9}
    profile("lab", compute=compute, tune=long)
    one = estimates.for_stages(["tune", "evaluate"])
    profile("lab", compute=compute | {"processes": processes}, tune=long, resources={"tune": {"nodes": nodes}})
    many = estimates.for_stages(["tune", "evaluate"])
    assert one["tune"].seconds.high / many["tune"].seconds.high == pytest.approx(times, rel=0.02)
    assert many["evaluate"].seconds == one["evaluate"].seconds, "no other processes answer"


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
    assert found["select"].source == "machine speed"  # it has no run yet
    assert found.keys() == {"tune@r1", "tune@r0", "select"}
    assert len(past_runs.past(["tune"])["tune"]) == 2


def test_a_run_with_an_optimizer_that_is_gone_is_compared(profile, store):
    record("tune", runner.as_recorded(configuration.for_stage("tune", profile("tiny"))) | {"tune.optimizer": "gone"})
    assert estimates.for_stages(["tune"])["tune"].source == "other settings"


def test_a_training_of_so_many_tokens_is_told_by_trainings_alone(profile, store):
    own = runner.as_recorded(configuration.for_stage("tune", profile("tiny")))
    record("tune@r0", own | {"tune.max_tokens": 0})  # passed through, in no time
    assert estimates.for_training("tune", 10**6).source == "machine speed"
    record("tune@r0", own)
    longer, same = (estimates.for_training("tune", times * int(own["tune.max_tokens"])) for times in (10, 1))
    assert (longer.source, same.source) == ("other settings", "equal settings")
    assert longer.seconds.high == pytest.approx(10 * same.seconds.high)


def test_of_a_base_that_is_not_fetched_yet_neither_files_nor_runs_of_the_one_before_tell(profile, store):
    small = profile("tiny").fetch.model
    workload.BASE.mkdir(parents=True)
    (workload.BASE / "config.json").write_text(json.dumps({"hidden_size": 40, "num_hidden_layers": 3}))
    (workload.BASE / "model.safetensors").write_bytes(bytes(4_000_000))
    source = small.model_dump(mode="json", exclude={"path", "digest"})
    (workload.BASE / "ratchet.json").write_text(json.dumps({"source": source | {"license": "MIT"}}))
    large = {"from": "hub", "id": "Qwen/Qwen2.5-7B", "revision": "1" * 40}
    for name in ("tune", "report"):
        record(name, runner.as_recorded(configuration.for_stage(name, configuration.load())))
    before = estimates.for_stages(["tune", "report"])
    assert workload.base_shape(small.model_dump()).parameters == 1e6
    assert memory_counts._base("tune", small.model_dump()) == workload.BASE
    config = profile("tiny", fetch={"model": large})
    assert workload.base_shape(config.fetch.model.model_dump()).parameters == 7e9
    assert memory_counts._base("tune", config.fetch.model.model_dump()) is None
    after = estimates.for_stages(["tune", "report"])
    assert (before["tune"].source, after["tune"].source) == ("equal settings", "machine speed")
    assert after["report"] == before["report"], "it runs no model"


def test_runs_of_another_base_are_no_equals_once_a_new_one_was_fetched(profile, store):
    sources = [profile("tiny").fetch.model.model_dump(mode="json", exclude={"path", "digest"})]
    sources.append({"from": "hub", "id": "Qwen/Qwen2.5-0.5B", "revision": "1" * 40})
    workload.BASE.mkdir(parents=True)
    found = []
    for source in sources:
        runner.BASE_CARD.write_text(json.dumps({"source": source, "weights": json.dumps(source)}))
        profile("tiny", fetch={"model": source})
        found.append(estimates.for_stages(["tune", "report"]))
        for name in ("tune", "report"):
            record(
                name, runner.as_recorded(configuration.for_stage(name, configuration.load())), **runner.base_weights()
            )
        found.append(estimates.for_stages(["tune", "report"]))
    assert [one["tune"].source for one in found] == ["machine speed", "equal settings"] * 2
    assert [one["tune"].runs for one in found] == [0, 1, 0, 1]
    assert [one["report"].runs for one in found] == [0, 1, 1, 2], "it runs no model"


@pytest.mark.parametrize(("kind", "known"), [("rules", True), ("local", False)])
def test_runs_of_refine_tell_of_the_base_that_wrote_in_them_alone(profile, store, kind, known):
    profile("tiny", refine={"generator": {"from": kind}})
    workload.BASE.mkdir(parents=True)
    runner.BASE_CARD.write_text(json.dumps({"weights": "one"}))
    record(
        "refine", runner.as_recorded(configuration.for_stage("refine", configuration.load())), **runner.base_weights()
    )
    assert "refine" in estimates.for_stages(["refine"])
    runner.BASE_CARD.write_text(json.dumps({"weights": "other"}))
    assert ("refine" in estimates.for_stages(["refine"])) is known


def test_a_model_of_the_hub_takes_as_long_as_its_download_whatever_another_took(profile, store, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    small = profile("tiny")
    record("fetch", runner.as_recorded(configuration.for_stage("fetch", small)))
    assert estimates.for_stages(["fetch"])["fetch"].source == "equal settings"
    revision = "1" * 40
    profile("tiny", fetch={"model": {"from": "hub", "id": "Qwen/Qwen2.5-7B", "revision": revision}})
    found = estimates.for_stages(["fetch"])["fetch"]
    assert found.source == "machine speed"
    assert found.seconds.low > 14e9 / max(estimates.LINE)
    assert found.seconds.high > 14e9 / min(estimates.LINE)
    (tmp_path / "hub/models--Qwen--Qwen2.5-7B/snapshots" / revision).mkdir(parents=True)
    assert estimates.for_stages(["fetch"])["fetch"].seconds.high < 60, "the hub's cache has it"


@pytest.mark.parametrize("uri", ["sqlite:///not-made-yet.db", "nonsense://store"])
def test_without_a_store_that_answers_the_model_steps_in(profile, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    profile("tiny")
    assert estimates.for_stages(["tune@r0"])["tune@r0"].source == "machine speed"
    assert not Path("not-made-yet.db").exists()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.5, "under 1 s"), (40.2, 69.8, "40–70 s"), (3, 3.2, "3 s"), (90, 250, "1.5–4.2 min"), (600, 1800, "10–30 min"), (3600, 7200, "1.0–2.0 h")],
)  # fmt: skip
def test_a_range_of_seconds_is_told_in_one_unit(low, high, said):
    assert as_time(Range(low, high)) == said


def test_a_range_of_megabytes_is_told_in_one_unit():
    assert [as_size(Range(*pair)) for pair in ((3, 3), (300, 800), (900, 3072))] == ["3 MB", "300–800 MB", "0.9–3.0 GB"]
