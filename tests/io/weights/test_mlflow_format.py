"""MLflow opens a registered version from the folder it is stored in: whole models and peft's adapters, without a copy of the weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import peft
import pytest
import torch

from flows.execution import ports
from tasks.io.runs import registry, run_links, run_store
from tasks.io.weights import checkpoints, mlflow_format
from tests import tiny as small

MODEL = Path(__file__).resolve().parents[3] / "params/micro-data/model"
PROMPT = [{"role": "user", "content": "What is 2 plus 3?"}]


@pytest.fixture
def folder(tmp_path):
    """A stored version that is a whole model."""
    shutil.copytree(MODEL, tmp_path / "version/model")
    return tmp_path / "version"


def adapt(folder):
    """Make of the stored model the base of an adapter that changes its answers."""
    (folder / "model").rename(folder / "base")
    model, _ = checkpoints.load(folder / "base")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    peft.get_peft_model(model, config).save_pretrained(folder / "model")


def opened(store, folder):
    """Register the folder as version 1, and open it by that name."""
    assert registry.mirror([registry.Version(1, "c1", "promoted", {}, folder)], {"champion": 1})
    mlflow.set_tracking_uri(run_store.uri())
    return mlflow.transformers.load_model(f"models:/{registry.NAME}@champion")


def logits(model, tokenizer):
    tokens = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        return model(**tokens).logits.float()


def test_a_registered_whole_model_is_opened_by_its_name_and_answers_a_chat(store, folder):
    pipeline = opened(store, folder)
    model, tokenizer = checkpoints.load(folder / "model")
    torch.testing.assert_close(logits(pipeline.model, pipeline.tokenizer), logits(model, tokenizer))
    (answer,) = pipeline(PROMPT, max_new_tokens=4, do_sample=False)
    assert answer["generated_text"][-1]["role"] == "assistant"
    served = mlflow.pyfunc.load_model(f"models:/{registry.NAME}/1")
    reply = served.predict({"messages": PROMPT, "max_tokens": 4})
    assert reply[0]["choices"][0]["message"]["role"] == "assistant"
    assert reply[0]["model"] == "ratchet@version"
    assert reply[0]["usage"]["completion_tokens"] <= 4


def test_mlflow_serves_a_registered_model(store, folder, tmp_path):
    port = ports.free_port()
    assert registry.mirror([registry.Version(1, "c1", "promoted", {}, folder)], {"champion": 1})
    address = f"http://127.0.0.1:{port}"
    words = ["--model-uri", f"models:/{registry.NAME}@champion", "--env-manager", "local", "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "models", "serve", *words, "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"{address}/ping", server, tmp_path / "log")
        body = json.dumps({"messages": PROMPT, "max_tokens": 4}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            (answer,) = json.load(reply)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] <= 4


def wait_for(address, server, log, seconds=120):
    """Wait until a server answers at this address."""
    for _ in range(4 * seconds):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
        else:
            return
    pytest.fail(log.read_text())


def test_a_registered_adapter_is_opened_on_its_base(store, folder):
    adapt(folder)
    pipeline = opened(store, folder)
    model, tokenizer = checkpoints.load(folder / "model", folder / "base")
    base, _ = checkpoints.load(folder / "base")
    torch.testing.assert_close(logits(pipeline.model, pipeline.tokenizer), logits(model, tokenizer), atol=1e-4, rtol=0)
    assert not torch.allclose(logits(model, tokenizer), logits(base, tokenizer), atol=1e-3)


def test_weights_are_not_copied_and_the_description_is_written_once(folder):
    assert mlflow_format.describe(folder)
    assert list(folder.rglob("*.safetensors")) == [folder / "model/model.safetensors"]
    written = (folder / mlflow_format.DESCRIPTION).stat().st_mtime_ns
    assert mlflow_format.describe(folder)
    assert (folder / mlflow_format.DESCRIPTION).stat().st_mtime_ns == written
    assert not any(path.is_symlink() and path.readlink().is_absolute() for path in folder.rglob("*"))


def test_the_tokenizer_has_all_its_chat_templates(folder):
    small.add_template(folder / "model", "tool_use")
    assert mlflow_format.describe(folder)
    linked, own = (checkpoints.load_tokenizer(folder / place) for place in (mlflow_format.TOKENIZER, "model"))
    assert linked.chat_template == own.chat_template
    assert "tool_use" in own.chat_template


@pytest.mark.parametrize("lacking", [checkpoints.OWN_ADAPTER, checkpoints.COMPRESSION_NOTE, "no model"])
def test_what_no_reader_of_mlflow_opens_is_left_as_it_is(folder, lacking):
    if lacking == "no model":
        shutil.rmtree(folder / "model")
    else:
        (folder / "model" / lacking).write_text("{}")
    assert not mlflow_format.describe(folder)
    assert not (folder / mlflow_format.DESCRIPTION).exists()


@pytest.mark.parametrize("base", ["nf4", "int8"])
def test_an_adapter_of_a_quantised_base_is_not_opened_on_plain_weights(folder, base):
    adapt(folder)
    checkpoints.write_card(folder / "model", method={"base": base, "adapter": "lora"})
    assert not mlflow_format.describe(folder)
    checkpoints.write_card(folder / "model", method={"base": "none", "adapter": "lora"})
    assert mlflow_format.describe(folder)


def test_packages_are_named_by_versions_that_the_package_index_has(folder, monkeypatch):
    monkeypatch.setattr(mlflow_format.metadata, "version", lambda name: "2.13.0+cpu" if name == "torch" else "1.0")
    assert mlflow_format.describe(folder)
    lines = (folder / mlflow_format.REQUIREMENTS).read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert "mlflow==1.0" in lines


def test_a_candidate_that_was_refused_first_is_opened_once_it_is_promoted(store, folder):
    refused = folder.parent / "refused"
    folder.rename(refused)
    folder.mkdir()
    assert registry.mirror([registry.Version(1, "c1", "refused", {}, folder)], {})
    folder.rmdir()
    refused.rename(folder)
    assert opened(store, folder).model.num_parameters() > 0


def test_a_server_is_given_no_folder_of_this_machine(store, folder, monkeypatch):
    monkeypatch.setattr(run_links, "is_server", lambda: True)
    assert registry.mirror([registry.Version(1, "c1", "promoted", {}, folder)], {"champion": 1})
    client, _ = run_store.connect()
    assert client.get_model_version(registry.NAME, "1").source == "ratchet:c1"
