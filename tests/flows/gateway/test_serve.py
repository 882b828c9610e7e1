"""`ratchet serve` as a user runs it: a promotion and a rollback under eight clients, with `transformers serve` behind it."""

import contextlib
import shutil
import signal
from pathlib import Path

import pytest

from flows.execution import ports
from flows.registry import promotion
from tests.flows.conftest import ROOT, Workspace, processes, wait_for
from tests.flows.gateway.conftest import Gateway
from tests.flows.gateway.test_switch import Load
from tests.flows.registry.test_promotion import Nights

MODEL = ROOT / "params/micro-data/model"


class Models(Nights):
    """Nights that end with a model of real weights, of the smallest kind."""

    def __init__(self, folder):
        super().__init__(folder)
        for name in ("base", "pretrained"):
            shutil.copytree(MODEL, folder / "models" / name, dirs_exist_ok=True)

    def promote(self, domain, scale):
        from safetensors import numpy

        model = self.folder / "models/tuned/r0"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(MODEL, model)
        weights = numpy.load_file(MODEL / "model.safetensors")
        numpy.save_file(
            {name: scale * value for name, value in weights.items()}, model / "model.safetensors", {"format": "pt"}
        )
        self.measure("r0", domain, 3.0, 1)
        self.register()
        decision = promotion.promote()
        assert decision.verdict == "promoted", decision.reason


@pytest.fixture
def place(tmp_path, store, monkeypatch):
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(folder)
    return Workspace(folder)


@contextlib.contextmanager
def serving(place, *models):
    port = ports.free_port()
    process = place.start("flows.commands", "serve", *models, "--port", str(port))
    try:
        wait_for(lambda: "Ctrl-C ends it." in place.printed() or process.poll() is not None, place.printed, 300)
        gateway = Gateway(f"http://127.0.0.1:{port}", {})
        yield process, gateway
        gateway.client.close()
    finally:
        process.kill()
        process.wait()


def test_a_promotion_and_a_rollback_under_eight_clients_lose_no_request(place):
    models = Models(place.folder)
    models.promote(1.9, 1.0)
    with serving(place) as (process, gateway):
        assert "serves champion (ratchet@1)" in place.printed()
        with Load(gateway, "abc") as load:
            load.hears("ratchet@1")
            models.promote(1.8, 2.0)
            load.hears("ratchet@2", 300)
            promotion.rollback(1, "a test")
            load.hears("ratchet@1", 300)
        assert load.failures == []
        assert set(load.answers) == {"ratchet@1", "ratchet@2"}
        mark = f".ratchet/serve/{gateway.url.rpartition(':')[2]}/"
        assert processes(mark)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not processes(mark)
    assert "champion is ratchet@2 now; ratchet@1 finishes what it has begun." in place.printed()


def test_a_model_that_does_not_exist_ends_it_with_one_sentence(place):
    Models(place.folder)
    told = place.run("flows.commands", "serve", "r9", "--port", str(ports.free_port()))
    assert told.returncode == 1
    assert told.stderr.startswith("There is no model 'r9'.")
    assert "Traceback" not in told.stderr


def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason_and_leaves_nothing_running(place):
    Models(place.folder)
    Path("models/base/model.safetensors").unlink()
    port = ports.free_port()
    told = place.run("flows.commands", "serve", "base", "--port", str(port))
    assert told.returncode == 1
    assert "could not be loaded: models/base has no weights as .safetensors: found none." in told.stderr
    assert not processes(f".ratchet/serve/{port}/")


def test_a_server_that_is_killed_leaves_nothing_running(place):
    Models(place.folder)
    with serving(place, "base") as (process, gateway):
        assert gateway.ask("abc", "base", max_tokens=3, temperature=0).status_code == 200
        mark = f".ratchet/serve/{gateway.url.rpartition(':')[2]}/"
        assert processes(mark)
        process.kill()
        wait_for(lambda: not processes(mark), lambda: str(processes(mark)), 20)
