"""Names of models, and the command lines by which backends serve them."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from flows.gateway import backends, requests, served_models
from flows.gateway.errors import ApiError
from flows.gateway.requests import Request
from flows.registry import versions
from tasks import configuration
from tasks.io.weights import banks, checkpoints
from tests.flows.conftest import ROOT

SOCKET = Path("1.sock")


def model_folder(path, **names):
    """A folder with the card of a model, and with these files."""
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "ratchet.json").write_text(json.dumps({"weights": "0123456789abcdef"}))
    for name, content in names.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def lora(path, **card):
    described = {"peft_type": "LORA", "r": 12, "base_model_name_or_path": "somewhere/else"} | card
    return model_folder(path, adapter_config__json=json.dumps(described), adapter_model__safetensors="weights")


@pytest.fixture
def workspace():
    """A base, a tuned adapter, and two promoted versions, of which the second is in place."""
    model_folder("models/base", config__json="{}")
    model_folder("models/pretrained", config__json="{}")
    lora("models/tuned/r0")
    for number in (1, 2):
        lora(f"models/versions/{number}/model")
        model_folder(f"models/versions/{number}/base", config__json="{}")
    versions.set_champion(2)


def config(device="cpu", **serve):
    shipped = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
    compute = {"device": device, "precision": "fp32", "threads": 3}
    Path("params.yaml").write_text(yaml.safe_dump(shipped | {"serve": serve, "compute": compute}))
    return configuration.load()


def installed(monkeypatch, *names):
    """Programs that a PATH leads to, and no others."""
    folder = Path("bin")
    folder.mkdir()
    for name in names:
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder.absolute()))


def test_an_alias_leads_to_a_name_that_stands_for_these_files(workspace):
    resolved = {
        alias: served_models.resolve(alias) for alias in ("champion", "1", "ratchet@1", "base", "r0", "models/tuned/r0")
    }
    assert {alias: model.name for alias, model in resolved.items()} == {
        "champion": "ratchet@2",
        "1": "ratchet@1",
        "ratchet@1": "ratchet@1",
        "base": "base@01234567",
        "r0": "r0@01234567",
        "models/tuned/r0": "r0@01234567",
    }
    assert resolved["champion"].folder == Path("models/versions/2/model")  # and no link, which may lead elsewhere later
    assert resolved["champion"].base == Path("models/versions/2/base")
    assert (resolved["base"].base, resolved["r0"].base) == (None, Path("models/pretrained"))


def test_the_champion_follows_the_link_and_without_one_it_is_the_base(workspace):
    versions.set_champion(1)
    assert served_models.resolve("champion").name == "ratchet@1"
    versions.set_champion(0)
    assert served_models.resolve("champion").name == "base@01234567"


@pytest.mark.parametrize(
    ("alias", "sentence"), [("7", "Versions with their files are: 1, 2"), ("r9", "There is no model 'r9'")]
)
def test_a_model_that_does_not_exist(workspace, alias, sentence):
    with pytest.raises(ValueError, match=sentence):
        served_models.resolve(alias)


def test_transformers_gets_the_model_with_its_base(workspace):
    launch = backends.choose(served_models.resolve("champion"), config())
    assert launch.command(SOCKET)[1:] == [
        "-m", "tasks.model_worker", "ratchet@2", "1.sock", "models/versions/2/model", "models/versions/2/base",
    ]  # fmt: skip
    assert (launch.key, launch.concurrency) == ("ratchet@2", 1)
    assert launch.environment["HF_HUB_OFFLINE"] == "1"


def test_the_adapters_of_a_bank_share_a_worker_and_each_has_its_name(workspace):
    members = {
        task: banks.Member(task, checkpoints.weights_digest(lora(f"models/tuned/r1/{task}")), 9) for task in "ab"
    }
    for task, member in members.items():
        Path(f"models/tuned/r1/{task}/ratchet.json").write_text(json.dumps({"weights": member.weights}))
    banks.write_card(Path("models/tuned/r1"), members)
    models = [served_models.resolve(f"r1/{task}") for task in "ab"]
    assert [model.name for model in models] == [banks.served_name(member) for member in members.values()]
    first, second = (backends.choose(model, config()) for model in models)
    assert first.key == second.key
    assert first.command(SOCKET)[-4:] == ["bank", "1.sock", "models/tuned/r1", "models/pretrained"]
    with pytest.raises(
        ValueError, match=r"is a bank of 2 adapters.*Name one of them: models/tuned/r1/a, models/tuned/r1/b"
    ):
        served_models.resolve("r1")


def test_adapters_of_one_base_share_a_vllm_that_finds_them_by_name(workspace, monkeypatch):
    installed(monkeypatch, "vllm")
    chosen = config("cuda", arguments=["--max-model-len", "4096"])
    first, second = (backends.choose(served_models.resolve(alias), chosen) for alias in ("1", "2"))
    base = str((backends.BASES / "01234567").absolute())
    assert first.command(SOCKET) == [
        "vllm", "serve", base, "--uds", "1.sock", "--served-model-name", "base@01234567",
        "--enable-lora", "--max-lora-rank", "16", "--max-model-len", "4096",
    ]  # fmt: skip
    assert first.key == second.key
    environment = first.environment
    assert environment["VLLM_PLUGINS"] == "lora_filesystem_resolver"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    cache = Path(environment["VLLM_LORA_RESOLVER_CACHE_DIR"])
    assert sorted(path.name for path in cache.iterdir()) == ["ratchet@1", "ratchet@2"]
    for folder in cache.iterdir():
        # What the resolver of vLLM asks of a folder: inside its own, a LoRA, of the base that it was started with.
        assert Path(os.path.realpath(folder)).parent == cache
        card = json.loads((folder / "adapter_config.json").read_text())
        assert (card["peft_type"], card["base_model_name_or_path"]) == ("LORA", base)
        assert (folder / "adapter_model.safetensors").read_text() == "weights"
    stored = Path("models/versions/1/model/adapter_config.json")
    assert json.loads(stored.read_text())["base_model_name_or_path"] == "somewhere/else"


def test_a_base_is_found_where_another_copy_of_it_was_removed(workspace, monkeypatch):
    installed(monkeypatch, "vllm")
    chosen = config("cuda")
    backends.choose(served_models.resolve("1"), chosen)
    shutil.rmtree("models/versions/1")
    weights = backends.choose(served_models.resolve("2"), chosen).command(SOCKET)[2]
    assert (Path(weights) / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("card", "reason"),
    [({"peft_type": "IA3"}, "its adapter is no LoRA"), ({"use_dora": True}, "its adapter is no LoRA")],
)
def test_what_vllm_cannot_serve_goes_to_transformers_or_is_refused(workspace, monkeypatch, card, reason):
    installed(monkeypatch, "vllm")
    lora("models/tuned/r1", **card)
    model = served_models.resolve("r1")
    assert backends.choose(model, config("cuda")).command(SOCKET)[2] == "tasks.model_worker"
    with pytest.raises(ValueError, match=reason):
        backends.choose(model, config("cuda", backend="vllm"))


def test_gguf_is_served_by_llama_cpp_where_it_is_installed(workspace, monkeypatch):
    model_folder("models/compressed", model__gguf="weights", compressed__json='{"compressor": "gguf", "params": {}}')
    model = served_models.resolve("compressed")
    assert backends.choose(model, config()).command(SOCKET)[2] == "tasks.model_worker"
    installed(monkeypatch, "llama-server")
    launch = backends.choose(model, config(arguments=["--ctx-size", "4096"]))
    assert launch.command(SOCKET) == [
        "llama-server", "--model", "models/compressed/model.gguf", "--alias", "compressed@01234567", "--host", "1.sock",
        "--jinja", "--no-ui", "--offline", "--parallel", "4", "--threads", "3", "--ctx-size", "4096",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "programs", "sentence"),
    [
        ("vllm", (), "vllm is not on the PATH"),
        ("llama.cpp", (), "llama-server is not on the PATH"),
        ("llama.cpp", ("llama-server",), "serves GGUF, and models/versions/2/model holds none"),
    ],
)
def test_a_backend_that_cannot_serve_a_model_is_reported(workspace, monkeypatch, backend, programs, sentence):
    installed(monkeypatch, *programs)
    with pytest.raises(ValueError, match=sentence):
        backends.choose(served_models.resolve("champion"), config(backend=backend))


def test_a_missing_extra_is_told_with_the_command_that_installs_it(workspace, monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[serve\]" -c constraints\.txt'):
        backends.choose(served_models.resolve("champion"), config())


@pytest.mark.parametrize(
    ("endpoint", "refused", "taken"),
    [
        ("completions", {"logit_bias": {"1": 5}, "logprobs": 0, "parallel_tool_calls": True}, {"logit_bias": {}, "n": 1, "store": False}),
        ("chat/completions", {"verbosity": "low", "moderation": {}, "tool_choice": "required", "top_k": 3},
         {"logit_bias": {"1": 5}, "logprobs": False, "parallel_tool_calls": False, "presence_penalty": 0.0, "store": False, "top_k": None}),
    ],
)  # fmt: skip
def test_a_field_that_transformers_would_leave_out_is_refused(endpoint, refused, taken):
    def ask(**fields):
        body = {"model": "champion", "stop": ["x"], **fields}
        requests.refuse_unsupported(Request(endpoint, body), backends.FIELDS_OF_TRANSFORMERS, "ratchet@1")

    ask(**taken)
    for field, value in refused.items():
        with pytest.raises(ApiError, match=f"^{field}: the backend of ratchet@1 does not support it"):
            ask(**{field: value})
