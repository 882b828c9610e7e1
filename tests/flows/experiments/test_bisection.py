"""`ratchet why --bisect`: what lies between two models is made, and tells which stage does what."""

import contextlib
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from flows.commands import why
from flows.execution.dvc import cache, lock_file, lock_graph
from flows.experiments import bisection, model_differences
from tasks.core.records import Result
from tasks.core.statistics import Estimate
from tests.flows.conftest import ROOT
from tests.flows.execution.elsewhere.conftest import box, sshd  # noqa: F401  # fixtures
from tests.flows.experiments.test_model_differences import side

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself

STAGE = """\
import json
from pathlib import Path

import yaml

level = yaml.safe_load(Path("params.yaml").read_text())["{name}"]["level"]


def add(source, target):
    before = float(Path(source).read_text().split()[0]) if source else 0.0
    Path(target).write_text(f"{{before + level}} with {{level}}")  # other levels are other bytes, whatever the sum


"""
MODELS = {
    "ingest": 'add(None, "data.txt")',
    "pretrain": 'add("data.txt", "pretrained.txt")',
    "tune": 'add("pretrained.txt", "tuned.txt")',
    "evaluate": """\
from tasks.core.records import Result
from tasks.io import tables

loss = float(Path("tuned.txt").read_text().split()[0]) + level
rows = [Result("domain", str(n), f"g{n}", None, 10 * (loss + n % 3 / 100), 10, 40, "", "") for n in range(20)]
tables.write(Path("data/results/rounds/r0.parquet"), rows, Result)""",
    "register": """\
assert Path("data/results/rounds/r0.parquet").exists()
Path("models").mkdir(exist_ok=True)
Path("models/candidate.json").write_text(json.dumps({"candidate": "r0", "files": {}}))""",
}
"""Stage → what its program does after it has read its own level. A loss is the sum of all levels."""
READS = {"pretrain": ["data.txt"], "tune": ["pretrained.txt"], "evaluate": ["tuned.txt"], "register": ["data/results"]}
MAKES = {
    "ingest": ["data.txt"],
    "pretrain": ["pretrained.txt"],
    "tune": ["tuned.txt"],
    "evaluate": ["data/results/rounds/r0.parquet"],
    "register": ["models/candidate.json"],
}


def git(*command):
    signed = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *signed, *command], check=True, capture_output=True)


@pytest.fixture
def stages(workspace, monkeypatch):
    """A workspace of five real stages, whose loss is the sum of what their settings say."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    listed = {}
    for name, rest in MODELS.items():
        Path(f"{name}.py").write_text(STAGE.format(name=name) + rest + "\n")
        entry = {
            "cmd": f"python {name}.py",
            "deps": [f"{name}.py", *READS.get(name, [])],
            "params": [name],
            "outs": MAKES[name],
        }
        listed |= {name: {"foreach": ["r0"], "do": entry} if name == "evaluate" else entry}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": listed}, sort_keys=False))
    Path(".gitignore").write_text("/.ratchet/\n/*.txt\n/data\n/models\n/mlflow.db\n")
    return workspace


def made(folder, commit="none", **levels):
    """The model that these levels make, as it would be kept."""
    config = {name: {"level": levels.get(name, 0.0)} for name in MODELS}
    Path("params.yaml").write_text(yaml.safe_dump(config))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    lock_file.tidy()
    kept = folder / "_".join(f"{name}{level}" for name, level in levels.items())
    kept.mkdir()
    shutil.copyfile("params.yaml", kept / "params.yaml")
    lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    card = {"candidate": "r0", "files": {}}
    return model_differences.ModelRecord(kept.name, card, lock, [], config=kept / "params.yaml", commit=commit)


def told(before, after):
    """What a bisection says: stages, how much worse they make it."""
    return [
        ([cause.stage for cause in part.causes], round(part.worse_by.value, 6))
        for part in bisection.bisect(before, after, "")
    ]


def test_the_larger_half_is_followed_down_to_one_stage(stages, tmp_path):
    before = made(tmp_path, ingest=1.0, tune=2.0, pretrain=0.5)
    after = made(tmp_path, ingest=1.1, tune=1.7, pretrain=0.4)
    mine = Path("params.yaml").read_bytes(), Path("dvc.lock").read_bytes(), Path("tuned.txt").read_text()
    assert bisection.stages_to_rerun(before, after) == ["pretrain", "tune", "evaluate@r0", "register"]
    assert told(before, after) == [
        (["ingest", "pretrain", "tune"], -0.3),
        (["ingest"], 0.1),
        (["pretrain", "tune"], -0.4),
        (["pretrain"], -0.1),
        (["tune"], -0.3),
    ]
    assert (Path("params.yaml").read_bytes(), Path("dvc.lock").read_bytes(), Path("tuned.txt").read_text()) == mine
    assert not bisection.FOLDER.exists()


def test_stages_of_hybrids_run_where_the_workspace_puts_them_today(stages, tmp_path, request):
    machine = request.getfixturevalue("box")
    before, after = made(tmp_path, ingest=1.0, tune=2.0), made(tmp_path, ingest=1.1, tune=1.7)
    with Path("params.yaml").open("a") as file:
        file.write("resources: {tune: {host: gpu-box}}\n")
    assert told(before, after) == [(["ingest", "tune"], -0.2), (["ingest"], 0.1), (["tune"], -0.3)]
    assert [path.parent.name for path in machine.folder.glob("why-*/*/tuned.txt")] == ["tune"]


def test_nothing_runs_where_the_two_do_not_differ_for_certain(stages, tmp_path):
    before = made(tmp_path, ingest=1.0, tune=2.0)
    after = made(tmp_path, ingest=2.0, tune=1.0)
    assert told(before, after) == [(["ingest", "tune"], 0.0)]  # what the one adds the other takes
    assert not bisection.FOLDER.exists()


def test_code_that_was_edited_since_is_taken_from_git(stages, tmp_path):
    git("add", "-A")
    git("commit", "-m", "first")
    before = made(tmp_path, ingest=1.0, tune=2.0)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    # Judged with an edit that was committed only then.
    stages.edit("tune.py", "before + level", "before + 2 * level")
    after = made(tmp_path, ingest=1.5, tune=2.0, commit=commit)
    git("commit", "-am", "second")
    stages.edit("tune.py", "2 * level", "level / 0")
    assert told(before, after) == [(["ingest", "tune"], 2.5), (["ingest"], 0.5), (["tune"], 2.0)]

    git("reset", "--hard", commit)  # what made the second is in no commit that follows
    with pytest.raises(ValueError, match=r"(?s)are not found.*  here: tune: code tune\.py changed"):
        told(before, after)
    assert not bisection.FOLDER.exists()


def test_what_a_cache_has_lost_and_what_cannot_be_made_is_said(stages, tmp_path):
    before = made(tmp_path, ingest=1.0, tune=2.0)
    stages.edit("tune.py", 'add("pre', """assert "1.0" not in Path("pretrained.txt").read_text()\nadd("pre""")
    after = made(tmp_path, ingest=1.5, tune=1.0)
    with pytest.raises(
        RuntimeError, match=r"(?s)stage tune failed.*AssertionError\n\(in \.ratchet/why, which is kept\)"
    ):
        told(before, after)
    assert (bisection.FOLDER / ".ratchet/logs/tune.log").is_file()
    cache.file(lock_graph.hashes(before.lock["ingest"], "outs")["data.txt"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"^data\.txt: not in DVC's cache"):
        told(before, after)
    assert not bisection.FOLDER.exists()
    cache.file(lock_graph.hashes(before.lock["evaluate@r0"], "outs")["data/results/rounds/r0.parquet"]).unlink()
    with pytest.raises(FileNotFoundError, match="dvc gc"):
        told(before, after)


def test_from_a_stage_that_one_alone_has_causes_stay_together():
    def one(tune, select=None, report=0):
        stages = {
            "ingest": ({"data/raw": "x"}, tune, {"data/train": f"d{tune}"}),
            "tune": ({"data/train": f"d{tune}"}, tune, {"models/tuned/r0": f"m{tune}"}),
        }
        if select is not None:
            stages["select"] = ({"models/tuned": "m"}, select, {"models/tuned/r0/best": "b"})
        stages["evaluate"] = ({"models/tuned": f"m{tune}"}, report, {"data/gate/r0.parquet": f"g{tune}{report}"})
        return side(stages)

    def apart(before, after):
        return [[cause.stage for cause in span] for span in bisection.separable_causes(before, after)]

    assert apart(one(0), one(1, report=1)) == [["ingest"], ["tune"], ["evaluate"]]
    assert apart(one(0), one(1, select=2, report=1)) == [["ingest"], ["tune"], ["select", "evaluate"]]
    assert apart(one(0, select=2), one(1, report=1)) == [["ingest"], ["tune"], ["select", "evaluate"]]
    assert bisection.stages_to_rerun(one(0), one(0)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([(0.0, 0.1)], "do not differ significantly"),
        ([(0.5, 0.1), (0.1, 0.2), (0.4, 0.1)], "The cause: stage 2, with 80% of the difference."),
        (
            [(0.5, 0.1), (0.2, 0.3), (0.3, 0.4)],
            "No stage alone has a significant effect; stage 2 has the largest share, 60%.",
        ),
        ([(0.5, 0.1)], "The cause: stage 0, with 100% of the difference."),
    ],
)
def test_the_conclusion_claims_no_more_than_the_interval_does(changes, told):
    parts = [
        bisection.Part(
            [model_differences.Cause(f"stage {number}", [], [])], Estimate(value, value - half, value + half, 9), 9
        )
        for number, (value, half) in enumerate(changes)
    ]
    assert told in why._conclusion(parts)


@pytest.fixture
def concluded(monkeypatch):
    """Returns what is concluded of two models and hybrids with these losses, which differ in these stages."""

    def of(first, second, *, hybrid, stages=("ingest", "tune")):
        def results(loss):
            return [Result("domain", f"{n}", f"g{n}", None, loss, 10, 10, "", "") for n in range(12)]

        @contextlib.contextmanager
        def hybrids(*_):
            yield lambda cut, parent: results(hybrid(cut) if callable(hybrid) else hybrid)

        groups = [[model_differences.Cause(name, [], [])] for name in stages]
        monkeypatch.setattr(bisection, "separable_causes", lambda before, after: groups)
        monkeypatch.setattr(bisection, "_place", lambda cause, before, after: cause.stage)
        monkeypatch.setattr(bisection, "_recorded", lambda record: results(record.loss))
        monkeypatch.setattr(bisection, "_hybrid_workspace", hybrids)
        models = (SimpleNamespace(name="model", loss=loss) for loss in (first, second))
        return why._conclusion(list(bisection.bisect(*models, "")))

    return of


@pytest.mark.parametrize(("hybrid", "cause"), [(math.nan, "tune"), (20.0, "ingest")])
def test_the_cause_of_a_divergence_is_the_stage_with_which_a_hybrid_diverges(concluded, hybrid, cause):
    """`hybrid`: the loss of what has the stage `ingest` of the one model and `tune` of the other."""
    other = "ingest" if cause == "tune" else "tune"
    for models, told in (((20.0, math.nan), cause), ((math.nan, 20.0), other)):
        assert concluded(*models, hybrid=hybrid).startswith(f"The cause: {told}. One of the two diverged")


@pytest.mark.parametrize("stages", [("ingest", "tune"), ("ingest", "pretrain", "tune", "merge")])
def test_no_stage_is_named_where_a_hybrid_of_two_sound_models_diverges(concluded, stages):
    first, later = (", ".join(half) for half in (stages[: len(stages) // 2], stages[len(stages) // 2 :]))
    assert concluded(20.0, 25.0, hybrid=math.nan, stages=stages) == (
        f"The changes of {first} and of {later} do not work apart: the hybrid with all changes from tune on, and none before, "
        "diverges, so that neither is named as the cause."
    )


def test_below_the_first_split_a_hybrid_that_diverges_has_all_changes_from_its_cut_on(concluded):
    """The hybrid at `tune` is nearly as good as the first model, so that the stages before it are split: that one diverges."""
    losses = {"tune": 20.5, "pretrain": math.nan}
    said = concluded(20.0, 25.0, hybrid=losses.get, stages=("ingest", "pretrain", "tune", "merge"))
    assert said.startswith(
        "The changes of ingest and of pretrain do not work apart: the hybrid with all changes from pretrain on,"
    )
