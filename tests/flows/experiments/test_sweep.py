"""Sweeps: what may be varied, points that repeat, trials that are trained once, a best that validation chooses."""

import dataclasses
import json
import math
import shutil
import statistics

import pytest
import yaml

from flows.commands import sweep as command
from flows.experiments import results_table, trial_store
from flows.experiments.sweeps import axes, outcome, samplers
from flows.experiments.sweeps import sweep as sweeps
from tasks import configuration
from tasks.core.records import Example
from tasks.io import tables

RATE = "methods.adamw.learning_rate"
pytestmark = pytest.mark.usefixtures("settings")


def made(*texts, **options):
    return sweeps.make(axes.read(texts), **options)


def rate(sections):
    return sections["methods"]["adamw"]["learning_rate"]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["methods.adamw.lerning_rate=1"], {}, r"methods\.adamw\.lerning_rate: .* Did you mean learning_rate\?"),
        (["tuen.warmup=0,0.1"], {}, r"tuen: there is no such key\. Did you mean tune"),
        (["tune.warmup.x=0,1"], {}, r"tune\.warmup holds a value"),
        (["tune.warmup=0..-1"], {}, r"the range 0\.\.-1 is empty\. Did you mean -1\.\.0\?"),
        (["tune.seed=0..1000000000"], {}, r"the range 0\.\.1000000000 has 1,000,000,001 values\. 10,000 are the most"),
        (["tune.warmup="], {}, "there is no value"),
        (["tune.warmup=2024-01-01"], {}, r"tune\.warmup: 2024-01-01 holds a date .* Put it into quotes"),
        (["tune.warmup"], {}, "names no setting and values"),
        (["tune.warmup=0", "tune.warmup=1"], {}, "set twice"),
        (["tune.warmup=0.0..0.5,0.7"], {}, "a span of numbers must be the only value"),
        (["tune.warmup=0.0..0.5"], {}, "a grid needs values.*--sampler random"),
        (["tune.warmup=0,2"], {}, r"^tune\.warmup: .*less than or equal to 1 \(found 2\)$"),
        (["tune.warmup=0.0..2.0"], {"sampler": "random"}, r"less than or equal to 1 \(found 2\.0\)"),
        (["methods.lora.rank=8,16"], {}, r"methods\.lora\.rank: stage tune does not depend on it"),
        (["ingest.seed=1,2"], {}, r"ingest\.seed: stage tune does not depend on it"),
        (["tune.seed=0..3"], {}, "alone chooses nothing"),
        (["tune.warmup=0,1", "tune.seed=0,x"], {}, r"^tune\.seed: seeds are whole numbers"),
        (["tune.warmup=0,1"], {"metric": "domain"}, "--metric domain: no trial of stage tune has it.*validation"),
        (["tune.warmup=0,1"], {"stop": "loss=2"}, "--stop loss=2: expected a time"),
        (["tune.warmup=0,1"], {"stop": "validation=low"}, "--stop validation=low: expected"),
        (["tune.warmup=0,1"], {"trials": 3}, "--sampler random"),
    ],
)  # fmt: skip
def test_what_is_no_sweep_is_told_before_the_first_trial(texts, options, message, trainings):
    ran = trainings(lambda _: 1.0)
    with pytest.raises(ValueError, match=message):
        made(*texts, **options)
    assert not ran


def test_inputs_that_are_not_there_are_named(settings):
    reads, _ = configuration.files("tune", "r0", configuration.load())
    next(iter(reads.values())).unlink()
    with pytest.raises(FileNotFoundError, match="`ratchet run tune@r0` makes"):
        made("tune.warmup=0,1")


def test_without_anything_to_test_the_best_on_nothing_is_trained_and_the_cost_is_reported(settings):
    tables.write(settings.parent / "data/ingested/test.parquet", [], Example)
    assert command.sweep(["tune.warmup=0,1"], dry=True).trainings == 2
    with pytest.raises(ValueError, match=r"test\.parquet holds nothing of domain, by which trials are measured"):
        command.sweep(["tune.warmup=0,1"])


def test_a_grid_has_every_combination_and_each_every_seed(trainings):
    ran = trainings(lambda sections: rate(sections) + sections["tune"]["warmup"])
    sweep = made(f"{RATE}=0.1,0.2", "tune.warmup=0,1", "tune.seed=3..5")
    rows = sweeps.run(sweep, "parent")
    assert [(rate(s), s["tune"]["warmup"], s["tune"]["seed"]) for s in ran] == [
        (r, w, seed) for r in (0.1, 0.2) for w in (0, 1) for seed in (3, 4, 5)
    ]
    assert [len(row.values) for row in rows] == [3] * 4
    assert sweeps.best(sweep, rows).point == {RATE: 0.1, "tune.warmup": 0}


def test_a_sweep_that_was_interrupted_runs_what_is_left_and_another_sweep_nothing_twice(trainings):
    def loss(sections):
        if rate(sections) == 0.3:
            raise KeyboardInterrupt
        return rate(sections)

    ran = trainings(loss)
    sweep = made(f"{RATE}=0.1,0.2,0.3")
    with pytest.raises(KeyboardInterrupt):
        sweeps.run(sweep, "parent")
    shutil.rmtree(next(p for p in trial_store.FOLDER.glob("*/model") if not (p.parent / "result.json").is_file()))
    ran = trainings(rate)
    sweeps.run(sweep, "parent")
    assert [rate(sections) for sections in ran] == [0.3]
    sweeps.run(made(f"{RATE}=0.2,0.3,0.4"), "parent")
    assert [rate(sections) for sections in ran] == [0.3, 0.4]


def test_a_training_that_a_comparison_measured_is_taken_over_without_its_test_figures(trainings):
    ran = trainings(rate)
    sweep = made(f"{RATE}=0.1,0.2")
    (point, seed), _ = sweeps.missing(sweep)
    folder = trial_store.write_folder(sweeps.plan(sweep, point, seed, test=True))
    (folder / "result.json").write_text(json.dumps({"validation": 7.0, "metrics": {"domain": {"loss": 1.0}}}))
    rows = sweeps.run(sweep, "parent")
    assert [rate(sections) for sections in ran] == [0.2]
    assert rows[0].values == [7.0]
    assert "metrics" not in rows[0].results[0]


def test_what_other_trials_read_of_one_is_renamed_into_place():
    sweep = made(f"{RATE}=0.1,0.2")
    (point, seed), _ = sweeps.missing(sweep)
    request = trial_store.write_folder(sweeps.plan(sweep, point, seed)) / "trial.json"
    (request.parent / "before").hardlink_to(request)
    trial_store.write_folder(sweeps.plan(sweep, point, seed))
    assert not request.samefile(request.parent / "before")


def test_only_the_models_of_the_best_point_so_far_are_kept(trainings):
    trainings(lambda sections: abs(rate(sections) - 0.2))
    rows = sweeps.run(made(f"{RATE}=0.1,0.2,0.3", "tune.seed=0..1"), "parent")
    assert {path.parent for path in trial_store.FOLDER.glob("*/model")} == set(rows[1].folders)


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("kill -9 $$", "was ended by SIGKILL, as the system does where memory runs out"),
        ("exit 143", "was ended by SIGTERM"),
        ("exit 1", "failed; the lines above say why"),
    ],
)
def test_a_trial_that_is_killed_is_told_so(tmp_path, monkeypatch, ending, told):
    """The kernel ends what takes too much memory: no line above would say why."""
    python = tmp_path / "python"
    folder = trial_store.write_folder(sweeps.plan(made(f"{RATE}=0.1,0.2"), {RATE: 0.1}, 3))
    python.write_text(f"#!/bin/sh\n{ending}\n")
    python.chmod(0o755)
    monkeypatch.setattr(trial_store.sys, "executable", str(python))
    with (
        trial_store.Runner("sweep", "parent", forks=False) as runner,
        pytest.raises(RuntimeError, match=rf"seed 3 {told}\."),
    ):
        list(runner.results([folder]))


def test_a_point_that_diverged_is_never_the_best_and_is_reported(trainings):
    trainings(lambda sections: math.nan if rate(sections) == 0.1 else rate(sections))
    sweep = made(f"{RATE}=0.1,0.2,0.3")
    rows = sweeps.run(sweep, "parent")
    assert sweeps.best(sweep, rows).point == {RATE: 0.2}
    assert [line[:2] for line in outcome.cells(sweep, rows)] == [
        ["0.2 *", "0.2000"],
        ["0.3", "0.3000"],
        ["0.1", "diverged"],
    ]


def test_losses_on_other_validation_tokens_are_not_ranked_unless_a_cost_chooses(trainings, monkeypatch):
    trainings(rate)
    run = trial_store._run

    def validated(folder, variables):
        code = run(folder, variables)
        figures, section = (
            json.loads((folder / "result.json").read_text()),
            yaml.safe_load((folder / "params.yaml").read_text())["tune"],
        )
        (folder / "result.json").write_text(json.dumps(figures | {"validated_on": section["pack_tokens"] < 300}))
        return code

    monkeypatch.setattr(trial_store, "_run", validated)
    texts = "tune.warmup=0,1", "tune.pack_tokens=256,260,300"
    message = r"^tune\.pack_tokens: validation measures other tokens with tune\.warmup=0, tune\.pack_tokens=300 than with .*=256, so"
    with pytest.raises(ValueError, match=message):
        sweeps.run(made(*texts), "parent")
    with pytest.raises(ValueError, match=r"^tune\.pack_tokens: .* than with tune\.warmup=0, tune\.pack_tokens=260"):
        sweeps.run(made("tune.warmup=0,0.5,1", texts[1], sampler="random"), "parent")
    assert len(sweeps.run(made("tune.pack_tokens=256,260"), "parent")) == 2
    assert len(sweeps.run(made(*texts, metric="bytes"), "parent")) == 6


def test_a_point_that_diverged_is_not_the_best_by_its_cost(trainings):
    trainings(lambda sections: math.nan if rate(sections) == 0.1 else rate(sections))
    sweep = made(f"{RATE}=0.1,0.2,0.3", metric="bytes")
    rows = sweeps.run(sweep, "parent")
    assert sweeps.best(sweep, rows).point == {RATE: 0.2}
    assert outcome.ranked(sweep, rows)[-1].point == {RATE: 0.1}


@pytest.mark.parametrize(("metric", "best"), [("validation", 0.3), ("bytes", 0.1), ("tokens_per_s", 0.1)])
def test_the_best_is_the_lowest_loss_or_cost_and_the_highest_speed(metric, best, trainings, monkeypatch):
    trainings(lambda sections: -rate(sections))
    sweep = made(f"{RATE}=0.1,0.2,0.3", metric=metric)
    assert sweeps.best(sweep, sweeps.run(sweep, "parent")).point == {RATE: best}


def test_a_figure_that_no_trial_came_to_is_told_with_those_there_are(trainings):
    trainings(rate)
    with pytest.raises(ValueError, match=r"rewards/margins: this training has no such figure\. It has: validation"):
        sweeps.run(made(f"{RATE}=0.1,0.2", metric="rewards/margins"), "parent")
    with pytest.raises(ValueError, match=r"It has: validation\. Speed is timed from the second step on: train more"):
        sweeps.figure({"validation": 1.0, "tokens_per_s": None}, "tokens_per_s")


@pytest.mark.parametrize(("stop", "number"), [("validation=0.25", 2), ("0s", 1), ("9h", 4), (None, 4)])
def test_a_sweep_ends_with_the_first_point_that_reaches_the_figure_or_when_its_time_is_over(stop, number, trainings):
    ran = trainings(lambda sections: 0.5 - rate(sections))
    sweeps.run(made(f"{RATE}=0.2,0.3,0.1,0.4", stop=stop), "parent")
    assert len(ran) == number


def test_a_point_that_diverged_ends_no_sweep_by_a_figure(trainings):
    ran = trainings(lambda sections: math.nan if rate(sections) == 0.1 else rate(sections))
    sweeps.run(made(f"{RATE}=0.1,0.2,0.3", stop="bytes=20"), "parent")
    assert len(ran) == 2


def test_points_at_random_differ_and_the_first_of_many_are_those_of_few():
    some = axes.read([f"{RATE}=1e-4..1e-1", "tune.warmup=0,1"])
    few, many = samplers.drawn(some, 5), samplers.drawn(some, 30)
    assert many[:5] == few
    assert len({json.dumps(point) for point in many}) == 30
    assert sum(point[RATE] < 1e-2 for point in many) > 12, "a span of decades is drawn from on a logarithmic scale"
    assert len(samplers.drawn(axes.read(["tune.warmup=0,1"]), 5)) == 2


def test_an_optimiser_proposes_the_same_again_and_more_where_it_is_better(trainings):
    pytest.importorskip("optuna", reason="needs the extra `sweep`")
    ran = trainings(lambda sections: abs(math.log10(rate(sections)) + 2))
    sweep = made(f"{RATE}=1e-6..1.0", "tune.warmup=0,1", sampler="tpe", trials=24)
    rows = sweeps.run(sweep, "parent")
    trained = len(ran)
    assert [row.point for row in sweeps.run(sweep, "parent")] == [row.point for row in rows]
    assert len(ran) == trained
    early, late = (statistics.fmean(row.mean for row in part) for part in (rows[:12], rows[-12:]))
    assert late < early


def test_an_optimiser_proposes_no_point_twice(trainings):
    pytest.importorskip("optuna", reason="needs the extra `sweep`")
    ran = trainings(lambda sections: math.nan if sections["tune"]["warmup"] == 0.5 else rate(sections))
    rows = sweeps.run(made(f"{RATE}=0.1,0.2,0.3,0.4", "tune.warmup=0,0.5,1", sampler="tpe", trials=11), "parent")
    assert len({json.dumps(row.point) for row in rows}) == len(rows) == len(ran) == 11


def test_an_optimiser_of_no_more_points_than_it_may_try_tries_them_all(trainings):
    trainings(rate)
    sweep = made(f"{RATE}=0.1,0.2,0.3", "tune.warmup=0,1", sampler="tpe")
    assert sweeps.number_of_points(sweep) == len(sweeps.run(sweep, "parent")) == 6


def test_without_optuna_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RuntimeError, match=r"--sampler tpe needs optuna: `pip install 'ratchet-llm\[sweep\]'`"):
        made(f"{RATE}=1e-6..1.0", sampler="tpe")


def test_with_one_seed_the_interval_is_said_to_be_missing_and_with_several_it_is_there(trainings):
    trainings(lambda sections: rate(sections) + 0.01 * sections["tune"]["seed"] * rate(sections))
    one = made(f"{RATE}=0.1,0.2")
    rows = sweeps.run(one, "parent")
    assert "there is no interval" in outcome.notes(one, rows)[0]
    assert "[" not in outcome.table(one, rows)
    three = made(f"{RATE}=0.1,0.2", "tune.seed=0..2")
    rows = sweeps.run(three, "parent")
    assert "3 seeds" in outcome.notes(three, rows)[0]
    second = outcome.cells(three, rows)[1]
    assert second[3].startswith("+0.1010 [+")
    assert second[3].endswith("]")


def test_seeds_that_are_all_equal_have_no_interval(trainings):
    trainings(rate)
    sweep = made(f"{RATE}=0.1,0.2", "tune.seed=0..2")
    assert outcome.cells(sweep, sweeps.run(sweep, "parent"))[1][1:4:2] == [
        "0.2000 [no interval]",
        "+0.1000 [no interval]",
    ]


def test_taking_a_point_keeps_comments_and_adds_the_section_of_its_method(settings):
    sweep = made("tune.adapter=none,lora", "tune.warmup=0,0.25")
    before = settings.read_text()
    outcome.take(sweep, {"tune.adapter": "lora", "tune.warmup": 0.25})
    after = configuration.load()
    assert (after.tune.adapter, after.tune.warmup, after.tune.save_every) == ("lora", 0.25, 2)
    assert after.methods.lora is not None
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in settings.read_text().splitlines() if "#" in line] == comments


def test_taking_a_point_leaves_every_other_line_as_it_is(settings):
    text = settings.read_text().replace("tune:\n", "tune:  # of a round\n\n  # twice\n", 1)
    text = text.replace("  warmup: ", "  warmup:   ", 1).replace(
        ": constant_with_warmup", ":  'constant_with_warmup'", 1
    )
    text = text.replace("fetch:", "'fetch' :", 1)
    settings.write_text(text)
    outcome.take(made("tune.adapter=none,lora"), {"tune.adapter": "lora"})
    before, after = text.splitlines(), settings.read_text().splitlines()
    assert [line for line in before if line not in after] == ["  adapter: none"]
    assert [line for line in after if line not in before] == ["  adapter: lora", "  lora: {}"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("tune.adapter=lora,nono", r"^tune\.adapter: adapters has no method 'nono'\. There are: .*lora, "),
        ("tune.optimizer=adamw,adam", r"^tune\.optimizer: optimizers has no method 'adam'\. There are: adamw, "),
    ],
)
def test_a_method_that_is_not_there_is_told_by_the_setting_that_names_it(wrong, message):
    with pytest.raises(ValueError, match=message):
        made(wrong)


def test_what_is_saved_is_a_table_figures_and_a_page_that_loads_nothing(trainings):
    trainings(lambda sections: math.nan if rate(sections) == 0.1 else rate(sections))
    sweep = made(f"{RATE}=0.1,0.2,0.3", "tune.schedule=cosine,linear")
    folder = outcome.save(sweep, sweeps.run(sweep, "parent"), ["a <b> note"])
    figures = json.loads((folder / "figures.json").read_text(), parse_constant=pytest.fail)
    assert sorted((row[RATE], row["validation"]) for row in figures[2:]) == [(0.2, 0.2)] * 2 + [(0.3, 0.3)] * 2
    assert [row["validation"] for row in figures[:2]] == [None, None], "JSON has no number for a training that diverged"
    page = (folder / "index.html").read_text()
    assert "default-src &#39;none&#39;" in page
    assert "a &lt;b&gt; note" in page
    charts = json.loads(page.partition('<script type="application/json" id="charts">')[2].partition("</script>")[0])
    lines = [one for one in charts["charts"][0]["layer"] if one["mark"]["type"] == "line"]
    drawn = {(row["point"], row["axis"]): row["at"] for one in lines for row in one["data"]["values"]}
    assert len(drawn) == 6 * 3 - 2, "the loss of a training that diverged is no point"
    assert drawn[0, RATE] == 0.0
    assert drawn[4, RATE] == 1.0
    assert drawn[2, "validation loss"] == 1.0, "the better the higher"
    assert {row["point"] for row in lines[1]["data"]["values"]} == {2}


def test_points_that_train_the_same_are_one_training_that_is_not_said_to_be_there(trainings, capsys):
    trainings(rate)
    texts = ["tune.adapter=none,lora", "methods.lora.rank=8,16"]
    command.sweep(texts, dry=True)
    assert "4 points, each with 1 seed; 3 trainings, and the best" in capsys.readouterr().out
    sweeps.run(made("tune.adapter=none,lora", "methods.lora.rank=8"), "parent")
    command.sweep(texts, dry=True)
    assert "4 points, each with 1 seed; 1 training (2 are there), and the best" in capsys.readouterr().out


def test_a_sweep_of_many_settings_has_a_folder_that_a_disk_takes(trainings):
    trainings(rate)
    names = ["warmup", "accumulation", "schedule", "pack_tokens", "epochs", "max_tokens", "selector", "objective"]
    section = configuration.load().tune
    narrow = made(f"{RATE}=0.1", *(f"tune.{name}={getattr(section, name)}" for name in names))
    wide = dataclasses.replace(narrow, axes=narrow.axes * 2)
    assert len(wide.name) > 255
    folder = outcome.save(wide, sweeps.run(narrow, "parent"), [])
    assert (folder / "figures.json").is_file()
    assert results_table.as_folder(wide.name) != results_table.as_folder(f"{wide.name}x")
    assert results_table.as_folder(narrow.name) == narrow.name


def test_the_trials_of_an_optimiser_are_counted_at_most(trainings):
    pytest.importorskip("optuna", reason="needs the extra `sweep`")
    sweep = made(f"{RATE}=1e-6..1.0", "tune.seed=0..1", sampler="tpe", trials=5)
    assert (sweeps.number_of_points(sweep), len(sweeps.missing(sweep))) == (5, 10)


def test_compute_is_not_varied_in_forks_with_other_threads(trainings, monkeypatch):
    wanted = []
    monkeypatch.setattr(trial_store.client, "is_wanted", lambda: wanted.append(1))  # None: no server is started
    trainings(rate)
    sweeps.run(made("compute.threads=1,2"), "parent")
    assert not wanted
    sweeps.run(made("tune.warmup=0.5,1"), "parent")
    assert wanted
