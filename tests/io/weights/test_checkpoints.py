"""Models are loaded as they were saved, and a folder that is no model is refused with what it lacks."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.io.weights import checkpoints
from tests import tiny as small

TURN = [{"role": "user", "content": "?"}]


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the tiny model that a test may spoil."""
    return shutil.copytree(tiny, tmp_path / "model")


def test_a_model_loads_as_it_was_saved_in_evaluation_mode(folder):
    model, tokenizer = checkpoints.load(folder)
    expected = small.load(folder)
    for found, wanted in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, wanted)
    assert not model.training
    assert tokenizer.decode(tokenizer("é", add_special_tokens=False)["input_ids"]) == "é"


def test_a_model_loads_in_the_precision_asked_for(folder):
    model, _ = checkpoints.load(folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", r"no weights as \.safetensors: found none"),
        ("tokenizer.json", r"no tokenizer\.json. Save the tokenizer"),
    ],
)
def test_what_a_folder_lacks_is_named(folder, lost, message):
    (folder / lost).unlink()
    with pytest.raises(ValueError, match=message) as caught:
        checkpoints.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("rename", "named"),
    [
        (
            lambda name: f"_orig_mod.{name}",
            r"lacks 2\d of the model's weights: .*, …\. Its files may have them by other names",
        ),
        (
            lambda name: name.replace("layers.1.mlp.up_proj", "up"),
            r"lacks 1 of the model's weights: model\.layers\.1\.mlp\.up_",
        ),
    ],
)
def test_weights_that_a_folder_lacks_are_named_and_not_made_up(folder, rename, named):
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {rename(name): tensor for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ValueError, match=named):
        checkpoints.load(folder)


def test_a_family_that_is_no_language_model_is_refused_in_one_sentence(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mistral3"}))
    with pytest.raises(ValueError, match=r"family mistral3, which AutoModelForCausalLM .* does not open") as caught:
        checkpoints.load(folder)
    assert len(str(caught.value)) < 400


def test_a_folder_that_lacks_one_of_several_files_of_weights_is_incomplete(folder):
    model, _ = checkpoints.load(folder)
    (folder / checkpoints.WHOLE).unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    lost = sorted(folder.glob("model-*"))[-1]
    checkpoints.check_folder(folder)
    lost.unlink()
    with pytest.raises(ValueError, match=rf"lacks {lost.name}, which model\.safetensors\.index\.json names"):
        checkpoints.check_folder(folder)


def test_weights_that_could_run_code_are_named_and_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, which can run code when it is opened"):
        checkpoints.load(folder)


def test_a_folder_that_is_not_there_is_no_model_folder(tmp_path):
    with pytest.raises(ValueError, match=r"gone is not a model folder: config\.json is missing"):
        checkpoints.load(tmp_path / "gone")


def test_a_compressed_model_is_not_taken_for_what_training_saved(folder):
    (folder / checkpoints.COMPRESSION_NOTE).write_text("{}")
    with pytest.raises(ValueError, match="is a compressed model, which cannot be taken here"):
        checkpoints.load(folder)


def test_an_adapter_without_its_base_asks_for_it(tmp_path):
    (tmp_path / checkpoints.PEFT_ADAPTER).write_text("{}")
    with pytest.raises(ValueError, match="is an adapter: name the model it was trained on"):
        checkpoints.load(tmp_path)


def test_an_adapter_of_other_weights_is_refused(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / checkpoints.PEFT_ADAPTER).write_text("{}")
    checkpoints.write_card(adapter, parent="0" * 64)
    with pytest.raises(ValueError, match=f"was trained on weights {'0' * 12}, but .*model holds "):
        checkpoints.load(adapter, folder)


def test_an_adapter_whose_weights_are_not_those_of_its_settings_is_refused_by_name(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"num_tokens": 4, "rank": 3, "max_tokens": 64}
    checkpoints.write_adapter(adapter, {"model.dept.prompt": torch.zeros(4, 64)}, "dept", config)
    with pytest.raises(ValueError, match=r"does not fit.*: model\.dept\.A, model\.dept\.B stands on one side only"):
        checkpoints.load(adapter, folder)


def test_weights_that_changed_under_their_card_are_other_weights(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / checkpoints.PEFT_ADAPTER).write_text("{}")
    checkpoints.write_card(folder)
    checkpoints.write_card(adapter, parent=checkpoints.read_card(folder)["weights"])
    checkpoints.check_parent(adapter, folder)
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b"\0")
    with pytest.raises(ValueError, match="was trained on weights"):
        checkpoints.check_parent(adapter, folder)


def test_the_card_holds_the_facts_and_the_hash_of_the_weights(folder):
    checkpoints.write_card(folder, method="x", parent=None)
    card = checkpoints.read_card(folder)
    assert card["method"] == "x"
    assert card["weights"] == checkpoints.weights_digest(folder)
    assert str(folder) not in json.dumps(card)


def test_the_hash_of_the_weights_is_that_of_the_weights_alone(folder):
    before = checkpoints.weights_digest(folder)
    (folder / "config.json").write_text("{}")
    assert checkpoints.weights_digest(folder) == before
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b"\0")
    assert checkpoints.weights_digest(folder) != before


def test_a_folder_without_a_card_says_nothing_of_itself(tmp_path):
    assert checkpoints.read_card(tmp_path) == {}


def test_a_template_that_writes_todays_date_writes_a_fixed_one_here_and_where_it_is_saved(folder, tmp_path):
    template = "{% if strftime_now is defined %}{% set now = strftime_now('%d %b %Y') %}{{ now + strftime_now(', %A %H:%M') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(template + "{{ messages[0].content }}")
    tokenizer = checkpoints.load_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = checkpoints.load_tokenizer(tmp_path / "saved")
    for each in (tokenizer, again):
        text = each.apply_chat_template(TURN, tokenize=False)
        assert text == "26 Jul 2024, Friday 00:00?"
    assert again.chat_template == tokenizer.chat_template


def test_each_of_several_templates_writes_a_fixed_date(folder, tmp_path):
    tokenizer = checkpoints.load_tokenizer(folder)
    tokenizer.chat_template = {"default": "on {{ strftime_now('%d %b %Y') }}", "tool_use": "{{ strftime_now('%Y') }}"}
    tokenizer.save_pretrained(folder)
    checkpoints.load_tokenizer(folder).save_pretrained(tmp_path / "saved")
    for again in (checkpoints.load_tokenizer(folder), checkpoints.load_tokenizer(tmp_path / "saved")):
        texts = [again.apply_chat_template(TURN, tools=tools, tokenize=False) for tools in (None, [{}])]
        assert texts == ["on 26 Jul 2024", "2024"]


@pytest.mark.parametrize(
    "beginning",
    [
        "Hello",
        "  Hello",
        "\n  Hello",
        "\n\nHello",
        "  {% if true %}\n  Hello{% endif %}",
        "\n \t{%- if true %} Hello{% endif %}",
    ],
)
def test_a_template_keeps_its_white_space_beside_the_clock(folder, beginning):
    template = beginning + "{{ '' if messages else strftime_now('%d') }} \n"
    tokenizer = checkpoints.load_tokenizer(folder)
    tokenizer.chat_template = template
    expected = tokenizer.apply_chat_template(TURN, tokenize=False)
    tokenizer.save_pretrained(folder)
    found = checkpoints.load_tokenizer(folder)
    assert found.chat_template != template
    assert found.apply_chat_template(TURN, tokenize=False) == expected
