"""Promotion: once and for good, whatever breaks in between; and the way back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml

from flows import commands
from flows.registry import history, promotion, versions
from tasks.core.records import CONDITIONS, Example, Result
from tasks.io import provenance, tables
from tasks.io.runs import registry
from tasks.stages.register import stage
from tasks.stages.register.config import STAGE, StageConfig
from tests.flows.conftest import ROOT
from tests.support import ScratchRun

MODELS = {
    "base": {"group": "reference", "path": "models/base", "base": "models/base"},
    "r0": {"group": "rounds", "path": "models/tuned/r0", "base": "models/pretrained"},
}


class Nights:
    """A workspace whose pipeline ends every night with a model of known worth."""

    conditions = "as ever"
    """How models are measured."""

    def __init__(self, folder):
        self.folder = folder
        one_round = {"rounds": {"r0": {}}, "turns": {}, "models": MODELS}
        config = yaml.safe_load((ROOT / "params/micro.yaml").read_text()) | one_round
        (folder / "params.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        self.measure("base", 2.0, 3.0)
        tables.write(folder / "data/rounds/r0/examples.parquet", [], Example)
        (folder / "models/pretrained").mkdir(parents=True)
        (folder / "models/pretrained/config.json").write_text("{}")

    def set(self, **sections):
        """Change sections of the settings."""
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections, sort_keys=False))

    def measure(self, name, domain, general, seed=0, answers=()):
        rng = np.random.default_rng(seed)
        rows = [
            Result(measure, f"{measure} {n}", f"g{n}", None, 100 * (level + rng.normal(0, 0.02)), 100, 400, "", "")
            for measure, level in (("domain", domain), ("general", general))
            for n in range(40)
        ]
        rows += [
            Result("number accuracy", f"question {n}", f"g{n}", None, float(right), 1, 1, "", "")
            for n, right in enumerate(answers)
        ]
        tables.write(self.folder / f"data/gate/{name}.parquet", rows, Result, {CONDITIONS: self.conditions})

    def night(self, weights, domain, general=3.0, seed=1, answers=()):
        """What the pipeline leaves behind."""
        model = self.folder / "models/tuned/r0"
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir(parents=True)
        (model / "adapter.json").write_text(weights)
        self.measure("r0", domain, general, seed, answers)
        self.register()

    def register(self):
        (self.folder / "compression.json").write_text('{"round": "r0", "compressor": "none"}')
        inputs = {name: self.folder / path for name, path in STAGE.reads.items()}
        inputs["compression"] = self.folder / "compression.json"
        config = StageConfig.model_validate({"gate": {}, "models": MODELS})
        stage.main(inputs, {"candidate": self.folder / "models/candidate.json"}, config, ScratchRun(self.folder))

    def lines(self):
        path = self.folder / "data/promotions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def champion(self):
        return (self.folder / "models/champion/model/adapter.json").read_text()


@pytest.fixture
def nights(tmp_path, store):
    return Nights(tmp_path)


def registered(store):
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    found = {int(v.version): v for v in client.search_model_versions("name = 'ratchet'")}
    return found, {alias: str(number) for alias, number in client.get_registered_model("ratchet").aliases.items()}


def ratchet(capsys, *arguments):
    """What a command prints, and whether it succeeds."""
    with pytest.raises(SystemExit) as end:
        commands.main(arguments)
    said = capsys.readouterr()
    return said.out + said.err, not end.value.code


def test_a_better_model_is_put_in_place_with_all_it_needs(nights, store, capsys):
    nights.night("one", 1.9)
    said, worked = ratchet(capsys, "promote")
    assert worked
    assert "version 1 (r0): promoted" in said
    assert nights.champion == "one"
    assert (nights.folder / "models/champion/base/config.json").read_text() == "{}"
    (line,) = nights.lines()
    assert (line["verdict"], line["look"], line["level"], line["champion"]) == ("promoted", 1, 0.025, 0)
    assert [check["measure"] for check in line["checks"]] == ["domain", "general"]
    found, aliases = registered(store)
    assert (found[1].tags["ratchet.candidate"], aliases) == (line["candidate"], {"champion": "1"})


def test_a_retried_promotion_is_one_version_and_one_line(nights, store):
    nights.night("one", 1.9)
    first, again = promotion.promote(), promotion.promote()
    assert first == again.model_copy(update={"after": first.after})
    assert len(nights.lines()) == len(registered(store)[0]) == 1


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        (versions, "store"),
        (versions.shutil, "copyfile"),
        (versions.shutil, "copytree"),
        (versions.Path, "rename"),
        (history, "append"),
        (versions, "set_champion"),
        (registry, "mirror"),
    ],
)
def test_whatever_breaks_a_promotion_the_next_attempt_ends_it_once(nights, store, monkeypatch, place, broken):
    nights.night("one", 1.9)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, broken, stop)
        with pytest.raises(KeyboardInterrupt):
            promotion.promote()
    promotion.promote()
    assert len(nights.lines()) == len(registered(store)[0]) == 1
    assert registered(store)[1] == {"champion": "1"}
    assert nights.champion == "one"


def test_a_refused_version_that_is_stored_anew_stops_nothing_where_its_removal_is_broken_off(nights, monkeypatch):
    nights.night("one", 1.9, general=3.2)
    assert promotion.promote().verdict == "refused"
    nights.set(gate={"margins": {"general": 0.5}})

    def stop(path, **_):
        if path.is_dir():
            (path / "decision.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            promotion.promote()
    assert promotion.promote().verdict == "promoted"
    assert [line["verdict"] for line in nights.lines()] == ["refused", "promoted"]
    assert nights.champion == "one"


def test_one_that_is_not_better_is_a_challenger_and_costs_a_look(nights, store):
    nights.night("one", 1.9)
    promotion.promote()
    nights.night("two", 1.9, seed=2)
    assert promotion.promote().verdict == "not decided"
    nights.night("three", 1.8, general=3.3)
    found = promotion.promote()
    assert (found.verdict, found.look, found.level) == ("refused", 2, 0.05 / 6)
    assert nights.champion == "one"
    assert registered(store)[1] == {"champion": "1", "challenger": "3"}
    assert not (nights.folder / "models/versions/3/model").exists()  # only what was promoted keeps its files


def test_a_champion_out_of_reach_of_dvc_comes_back_by_its_hash(nights, store, capsys):
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=nights.folder, check=True)
    for number, domain in enumerate((1.9, 1.8)):
        nights.night(f"model {number}", domain)
        subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", "models/tuned"], cwd=nights.folder, check=True)
        promotion.promote()
    subprocess.run(
        [sys.executable, "-m", "dvc", "gc", "--quiet", "--workspace", "--force"], cwd=nights.folder, check=True
    )
    said, worked = ratchet(capsys, "rollback", "--to", "1", "--reason", "answers in French")
    assert worked, said
    assert nights.champion == "model 0"
    assert registered(store)[1] == {"champion": "1", "challenger": "2"}
    # The candidate of that night is still there: asked again, the history's word stands and nothing moves.
    said, _ = ratchet(capsys, "promote")
    assert "version 2 (r0): promoted, but version 1 is in place now; `ratchet rollback --to 2` changes that" in said
    assert nights.champion == "model 0"
    said, _ = ratchet(capsys, "status")
    assert "In place: version 1." in said
    assert "back from 2  answers in French" in said


def test_what_is_not_whole_is_not_put_in_place(nights, capsys):
    for number, domain in enumerate((1.9, 1.8)):
        nights.night(f"model {number}", domain)
        promotion.promote()
    weights = nights.folder / "models/versions/1/model/adapter.json"
    weights.unlink()
    weights.write_text("others")
    said, worked = ratchet(capsys, "rollback", "--to", "1")
    assert not worked
    assert "models/versions/1/model does not hold version 1: its hash is" in said
    assert nights.champion == "model 1"
    assert "Version 7 was never promoted. These were: 1, 2." in ratchet(capsys, "rollback", "--to", "7")[0]


def test_an_outage_of_mlflow_costs_nothing_but_time(nights, store, monkeypatch):
    nights.night("one", 1.9)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{nights.folder}/nowhere/mlflow.db")
        assert promotion.promote().verdict == "promoted"
    nights.night("two", 1.8)
    promotion.promote()
    found, aliases = registered(store)
    assert sorted(found) == [1, 2]
    assert aliases == {"champion": "2"}


def test_a_guarded_accuracy_promotes_within_its_margin_and_refuses_a_fall_beyond_it(nights):
    params = nights.folder / "params.yaml"
    params.write_text(params.read_text().replace("general: 0.05", "{general: 0.05, number accuracy: 0.05}"))
    right = [n % 2 == 0 for n in range(400)]
    nights.measure("base", 2.0, 3.0, answers=right)
    nights.night("as many right", 1.9, answers=right)
    decision = promotion.promote()
    assert (decision.verdict, decision.checks[-1]["finding"]) == ("promoted", "no worse"), decision.reason
    nights.night("a quarter of them lost", 1.8, seed=2, answers=[one and n % 8 != 0 for n, one in enumerate(right)])
    decision = promotion.promote()
    check = decision.checks[-1]
    assert (decision.verdict, check["measure"], check["finding"]) == ("refused", "number accuracy", "worse")
    assert check["worse_by"]["value"] == pytest.approx(50 / 400)
    assert nights.champion == "as many right"


def test_without_a_gate_set_nothing_is_promoted_and_no_look_is_spent(nights, capsys):
    nights.night("one", 1.9)
    tables.write(nights.folder / "data/gate/r0.parquet", [], Result)
    with pytest.raises(ValueError, match=r"data/gate/r0.parquet is not what models/candidate.json was written for"):
        promotion.promote()
    nights.register()
    said, worked = ratchet(capsys, "promote")
    assert not worked
    assert "There is no gate set, so nothing is promoted" in said
    assert nights.lines() == []


def test_files_that_changed_since_they_were_measured_are_not_promoted(nights):
    nights.night("one", 1.9)
    (nights.folder / "models/tuned/r0/adapter.json").write_text("two")
    with pytest.raises(ValueError, match=r"models/tuned/r0 is not what models/candidate.json was written for"):
        promotion.promote()
    (nights.folder / "models/candidate.json").unlink()
    with pytest.raises(FileNotFoundError, match="`ratchet run register` makes it"):
        promotion.promote()


def write_keeping_stamp(file, text):
    """Change a file in place and keep its size and time."""
    state = file.stat()
    assert state.st_size == len(text)
    file.chmod(0o644)
    file.write_text(text)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_files_that_changed_and_kept_their_size_and_time_are_neither_promoted_nor_put_back(nights):
    nights.night("one", 1.9)
    file = nights.folder / "models/tuned/r0/adapter.json"
    before = file.read_text()
    provenance.digest(Path("models/tuned/r0"))
    write_keeping_stamp(file, before.swapcase())
    with pytest.raises(ValueError, match=r"models/tuned/r0 is not what models/candidate.json was written for"):
        promotion.promote()
    write_keeping_stamp(file, before)
    assert promotion.promote().version == 1
    promotion.rollback(history.REFERENCE, "a test")
    versions.check_files(1, history.read().promoted[1].files)
    stored = nights.folder / "models/versions/1/model/adapter.json"
    write_keeping_stamp(stored, before.swapcase())
    with pytest.raises(ValueError, match=r"models/versions/1/model does not hold version 1"):
        promotion.rollback(1, "a test")


def test_a_promoted_version_that_is_judged_again_is_whole_at_every_moment(nights, monkeypatch):
    nights.night("one", 1.9)
    promotion.promote()
    files = history.read().promoted[1].files
    for owner, name in ((Path, "replace"), (Path, "rename"), (shutil, "rmtree")):
        whole = getattr(owner, name)

        def watched(*arguments, whole=whole, **options):
            whole(*arguments, **options)
            versions.check_files(1, files)

        monkeypatch.setattr(owner, name, watched)
    (nights.folder / "params.yaml").write_text(
        (nights.folder / "params.yaml").read_text().replace("general: 0.05", "general: 0.5")
    )
    nights.night("two", 1.8)
    promotion.promote()
    nights.night("one", 1.9)
    assert promotion.promote().version == 1
    versions.check_files(1, files)
    assert history.read().decisions[-1] in versions.lines()
    assert not list((nights.folder / "models/versions").glob("*.partial"))


def test_other_rules_are_another_decision_on_the_same_version(nights, store):
    nights.night("one", 1.9, general=3.2)
    assert promotion.promote().verdict == "refused"
    text = (nights.folder / "params.yaml").read_text()
    (nights.folder / "params.yaml").write_text(text.replace("general: 0.05", "general: 0.5"))
    found = promotion.promote()
    assert (found.verdict, found.version, found.look) == ("promoted", 1, 2)
    (known,) = registered(store)[0].values()
    assert known.tags["verdict"] == "promoted"
    assert known.description.startswith("promoted: domain better")


@pytest.mark.parametrize("writable", [False, True])
def test_promoted_files_share_their_bytes_with_what_dvc_protects_and_with_nothing_that_can_be_edited(nights, writable):
    nights.night("one", 1.9)
    kept, made = (nights.folder / place / "adapter.json" for place in ("models/champion/model", "models/tuned/r0"))
    made.chmod(0o644 if writable else 0o444)
    promotion.promote()
    assert kept.samefile(made) != writable
    assert provenance.digest(kept.parent) == nights.lines()[0]["files"]["model"]


def test_a_champion_whose_files_are_not_here_is_not_pointed_to(nights):
    nights.night("one", 1.9)
    promotion.promote()
    shutil.rmtree(nights.folder / "models/versions")
    (nights.folder / "models/champion").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"the files of version 1 are not in this workspace. Copy models/versions/"
    ):
        promotion.promote()
    assert not (nights.folder / "models/champion").is_symlink()
