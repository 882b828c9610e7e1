"""A model ends its turn by the token that training writes there, whatever its generation config says."""

import json
import shutil

import pytest

from tasks.engine.inference.generation import turn_ends
from tasks.io.weights import checkpoints, compressed, models
from tasks.methods.compressors.gguf.config import GgufConfig
from tasks.methods.compressors.gguf.method import write
from tests import tiny as small

TEXT, TURN = "<|endoftext|>", "<|im_end|>"


@pytest.fixture
def of_texts(tiny, tmp_path):
    """The tiny model as base models come: turns of ChatML in the template, and no end but that of a text."""
    folder = shutil.copytree(tiny, tmp_path / "of-texts")
    for name, end in (("tokenizer_config.json", TEXT), ("config.json", 256), ("generation_config.json", 256)):
        settings = json.loads((folder / name).read_text())
        settings["eos_token" if isinstance(end, str) else "eos_token_id"] = end
        (folder / name).write_text(json.dumps(settings))
    return folder


def ends(model, tokenizer):
    return set(tokenizer.convert_ids_to_tokens(sorted(turn_ends(model))))


def test_a_base_that_knows_the_end_of_texts_alone_ends_its_turns_too_wherever_it_is_saved(of_texts, tmp_path):
    model, tokenizer = checkpoints.load(of_texts)
    assert ends(model, tokenizer) == {TEXT, TURN}
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/generation_config.json").read_text())["eos_token_id"] == [256, 258]
    base = small.fetch(tmp_path, {"from": "folder", "path": str(of_texts)})["base"]
    assert json.loads((base / "generation_config.json").read_text())["eos_token_id"] == [256, 258]


@pytest.mark.parametrize(
    "idle", [{"do_sample": False, "temperature": 0.7, "top_p": 0.8}, {"early_stopping": True}, {"pad_token_id": -1}]
)
def test_settings_that_the_library_finds_idle_stand_in_the_way_of_no_copy(of_texts, tmp_path, idle):
    (of_texts / "generation_config.json").write_text(json.dumps({"eos_token_id": 256, **idle}))
    base = small.fetch(tmp_path, {"from": "folder", "path": str(of_texts)})["base"]
    model, tokenizer = checkpoints.load(of_texts)
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "gguf").mkdir()
    write(model, tokenizer, tmp_path / "gguf", GgufConfig(type="f32"))
    for folder in (base, tmp_path / "saved", tmp_path / "gguf"):
        settings = json.loads((folder / "generation_config.json").read_text())
        assert settings["eos_token_id"] == [256, 258]
        assert settings | idle == settings


def test_a_gguf_ends_its_turns_too(of_texts, tmp_path):
    (tmp_path / "gguf").mkdir()
    write(*checkpoints.load(of_texts), tmp_path / "gguf", GgufConfig(type="f32"))
    compressed.write_note(tmp_path / "gguf", "gguf", {})
    assert ends(*models.load(tmp_path / "gguf")) == {TEXT, TURN}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ messages[1].content }}<|im_start|>{{ messages[0].content }}", {TEXT, "<|im_start|>"}),
        ("{% for turn in messages %}{{ turn.content }}\n{% endfor %}", {TEXT}),
        ("<|im_start|>{{ messages[0].content }}", {TEXT}),
        ("{{ raise_exception('no') }}", {TEXT}),
        (None, {TEXT}),
    ],
)
def test_the_end_is_the_first_control_token_after_the_answer(of_texts, template, expected):
    (of_texts / "chat_template.jinja").unlink()
    if template:
        (of_texts / "chat_template.jinja").write_text(template)
    assert ends(*checkpoints.load(of_texts)) == expected


def test_a_model_that_knows_the_end_of_its_turns_stays_as_it_is(tiny, tmp_path):
    assert checkpoints.load(tiny)[0].generation_config.eos_token_id == 258
    base = small.fetch(tmp_path, {"from": "folder", "path": str(tiny)})["base"]
    assert (base / "generation_config.json").read_bytes() == (tiny / "generation_config.json").read_bytes()


def test_a_tokenizer_without_end_and_padding_has_the_end_of_the_models_settings(of_texts):
    file = of_texts / "tokenizer_config.json"
    settings = {**json.loads(file.read_text()), "eos_token": None, "pad_token": None}
    file.write_text(json.dumps(settings))
    assert checkpoints.load_tokenizer(of_texts).eos_token == TEXT
    for name in ("config.json", "generation_config.json"):
        (of_texts / name).write_text("{}")
    with pytest.raises(ValueError, match="Set `eos_token` in its tokenizer_config"):
        checkpoints.load_tokenizer(of_texts)
