import json
import shutil

import pytest
import yaml

from flows.experiments import trial_store
from flows.experiments.recipes import Recipe
from tasks import configuration
from tests.flows.conftest import ROOT

TWO = {"compositions": {"lora": {"adapter": "lora"}, "full": {"adapter": "none"}}}
"""A recipe's compositions."""


@pytest.fixture
def lines(tmp_path):
    """Return a function that writes rows to a JSON Lines file of a given name."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def recipe() -> Recipe:
    """A comparison of two compositions with two seeds."""
    return Recipe.model_validate(TWO | {"seeds": 2, "tokens": 1000})


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Profile `micro` with the code of this repository, and a file for each input that a trial reads."""
    for name in ("tasks", "flows"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copyfile(ROOT / "params/micro.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATCHET_FORKSERVER", "0")
    for path in configuration.files("tune", "r0", configuration.load())[0].values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path / "params.yaml"


@pytest.fixture
def trainings(monkeypatch):
    """Replace trainings by a function from settings to loss, so that trials end at once. Return the settings of the trials that ran, in order."""

    def of(loss):
        ran = []

        def run(folder, _variables):
            sections = yaml.safe_load((folder / "params.yaml").read_text())
            ran.append(sections)
            (folder / "model").mkdir(exist_ok=True)
            figures = {"validation": loss(sections), "bytes": 10, "trainable": 5, "tokens_per_s": 2.0}
            (folder / "result.json").write_text(json.dumps(figures))
            return 0

        monkeypatch.setattr(trial_store, "_run", run)
        return ran

    return of
