"""A promoted model with its evidence, created once."""

import shutil

import pytest

from flows.registry import promotion
from tests.flows.registry.made_model import MadeModel


@pytest.fixture(scope="session")
def promoted(tmp_path_factory, empty_store):
    """A workspace with one model, which was promoted. Its evidence is in models/evidence/1."""
    folder = tmp_path_factory.mktemp("promoted")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.delenv("RATCHET_SIGNING_KEY", raising=False)
        made = MadeModel(folder)
        made.lock()
        made.register()
        assert promotion.promote().verdict == "promoted"
    return folder


@pytest.fixture
def workspace_of_model(promoted, tmp_path, monkeypatch):
    """A copy of `promoted`. It is the current folder of this process."""
    shutil.copytree(promoted, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"
