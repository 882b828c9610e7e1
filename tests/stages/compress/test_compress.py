"""Stage `compress` stores a round's model in fewer bytes and measures the loss; `load` opens the result."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import IA3Config, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tasks import methods
from tasks.core.records import Example, FaultPair, Message
from tasks.engine import encode
from tasks.engine.inference import generation, scoring
from tasks.io import tables
from tasks.io.weights import checkpoints, compressed, models
from tasks.stages.compress import stage
from tasks.stages.compress.config import StageConfig
from tasks.stages.tune import stage as tune
from tasks.stages.tune.config import StageConfig as TuneStageConfig
from tests import tiny as small
from tests.methods import contract
from tests.support import ScratchRun

ROOT = Path(__file__).resolve().parents[3]
EVERY = [name for name in methods.names("compressors") if name != "none"]
OF_DIFFERENCES = ("compeft", "levels")
"""Compressors of what training changed, which store no model whole."""
PARTS = {"lora": {"rank": 4}, "none": {}, "all": {}, "adamw": {"learning_rate": 0.01}, "cross_entropy": {}}
GRID = {"densities": [0.5], "alphas": [0.1, 1.0, 2.0, 10.0]}


def examples(count, **fields):
    return [small.example(n, prompt=f"Is {n} a number?", response="yes, indeed", **fields) for n in range(count)]


@pytest.fixture(scope="module")
def tuned(tiny, tmp_path_factory):
    """A LoRA `r0` and a whole model `r1`, trained on the same few examples, and what they were validated on."""
    folder = tmp_path_factory.mktemp("tuned")
    tables.write(folder / "examples.parquet", examples(20), Example)
    tables.write(folder / "valid.parquet", examples(4, split="valid"), Example)
    tables.write(folder / "faults.parquet", [], FaultPair)
    for name, adapter in (("r0", "lora"), ("r1", "none")):
        config = TuneStageConfig.model_validate(
            {
                "compute": {"precision": "fp32", "threads": 1},
                "tune": {"adapter": adapter, "pack_tokens": 128, "max_tokens": 1500, "warmup": 0, "epochs": 3},
                "methods": PARTS,
            }
        )
        inputs = {"base": tiny} | {kind: folder / f"{kind}.parquet" for kind in ("examples", "faults", "valid")}
        tune.main(inputs, {"model": folder / "models" / name}, config, ScratchRun(folder / name, name))
    return folder


@pytest.fixture
def inputs(tiny, tuned):
    selection = tuned / "selection.json"
    selection.write_text('{"round": "r0"}')
    return {"base": tiny, "tuned": tuned / "models", "selection": selection, "valid": tuned / "valid.parquet"}


@pytest.fixture
def compress(inputs, tmp_path):
    """The folder of the compressed model, the metrics, and what the run heard, under these settings."""

    def of(compressor, name="first", precision="fp32", method=None, **overrides):
        run = ScratchRun(tmp_path / name)
        (tmp_path / name).mkdir()
        outputs = {"model": tmp_path / name / "model", "metrics": tmp_path / name / "compression.json"}
        section = contract.said(compressor, "SMALL", {}) if method is None else method
        config = StageConfig.model_validate(
            {
                "compute": {"precision": precision, "threads": 1},
                "compress": {"compressor": compressor, **overrides},
                "methods": {compressor: section},
            }
        )
        stage.main(inputs, outputs, config, run)
        return outputs["model"], json.loads(outputs["metrics"].read_text()), run

    return of


def loss(inputs, path, dtype="float32"):
    model, tokenizer = models.load(path, inputs["base"], dtype=dtype)
    return scoring.mean(
        scoring.losses(model, list(encode.examples(tables.read(inputs["valid"], Example), tokenizer, 128)))
    )


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("round", ["r0", "r1"])
def test_what_was_measured_is_what_is_opened(compress, inputs, name, round):
    folder, metrics, run = compress(name, round=round)
    assert metrics["loss"]["before"] == pytest.approx(loss(inputs, inputs["tuned"] / round), abs=1e-5)
    assert metrics["loss"]["after"] == pytest.approx(loss(inputs, folder), abs=1e-5)
    assert metrics["bytes"]["after"] == sum(file.stat().st_size for file in checkpoints.weights(folder))
    assert metrics["bytes"]["after"] < metrics["bytes"]["before"]
    assert (metrics["round"], metrics["compressor"]) == (round, name)
    assert f"{metrics['bytes']['before']:,} → {metrics['bytes']['after']:,} bytes" in run.said[-1]
    assert run.metrics[-1][1]["validation_loss"] == metrics["loss"]["after"]


def test_a_merged_adapter_in_gguf_writes_the_same_text(compress, inputs):
    folder, _, _ = compress("gguf", method={"type": "f32"})
    prompts = [[Message("user", f"Is {n} a number?")] for n in range(4)]

    def texts(path):
        model, tokenizer = models.load(path, inputs["base"])
        return generation.write(model, prompts, tokenizer, max_new_tokens=8, batch_size=4)

    assert texts(folder) == texts(inputs["tuned"] / "r0")


@pytest.mark.parametrize("name", EVERY)
def test_the_speed_of_scoring_before_and_after_is_logged_and_stands_in_no_output(
    compress, inputs, tiny, monkeypatch, name
):
    rows = encode.examples(tables.read(inputs["valid"], Example), checkpoints.load(tiny)[1], 128)
    tokens, clock, seconds = sum(map(len, rows)), [0.0], iter(range(1, 100))
    score = scoring.losses

    def timed(*args):
        yield from score(*args)
        clock[0] += next(seconds)  # the first model takes a second, the next one two, and so on

    monkeypatch.setattr(scoring, "losses", timed)
    monkeypatch.setattr(stage.time, "perf_counter", lambda: clock[0])
    folder, metrics, run = compress(name)
    logged = run.metrics[-1][1]
    assert logged["tokens_per_s_before"] == tokens
    best = min(range(len(tried)), key=lambda n: tried[n]["loss"]) if (tried := metrics.get("tried")) else 0
    assert logged["tokens_per_s"] == tokens / (2 + best)
    assert "per_s" not in json.dumps(metrics) + (folder / checkpoints.CARD).read_text()


@pytest.mark.parametrize("name", EVERY)
def test_twice_the_same_settings_are_the_same_bytes(compress, name):
    first_folder, first_metrics, _ = compress(name, "first")
    again_folder, again_metrics, _ = compress(name, "again")
    assert digests(first_folder) == digests(again_folder)
    assert first_metrics == again_metrics


@pytest.mark.parametrize("name", ["none", *EVERY])
def test_the_card_names_the_parent_and_no_file_a_path(compress, inputs, tmp_path, name):
    folder, _, _ = compress(name)
    card, start = checkpoints.read_card(folder), checkpoints.read_card(inputs["tuned"] / "r0")
    assert card["parent"] == start["parent"] == checkpoints.weights_digest(inputs["base"])
    assert card["compressed"] == start["weights"]
    assert card["method"]["compressor"] == name
    assert card["weights"] == checkpoints.weights_digest(folder)
    for file in folder.iterdir():
        for path in (tmp_path, *inputs.values()):
            assert str(path).encode() not in file.read_bytes(), file.name


def test_none_copies_nothing_and_says_so_where_a_model_is_looked_for(compress, inputs):
    folder, metrics, run = compress("none", method={})
    assert {file.name for file in folder.iterdir()} == {"compressed.json", "ratchet.json"}
    assert metrics == {"round": "r0", "compressor": "none"}
    assert run.metrics == []
    with pytest.raises(ValueError, match=r"holds no model: compress\.compressor is none"):
        models.load(folder, inputs["base"])


def test_none_loads_no_torch():
    code = (
        "import sys\n"
        "import tasks.stages.compress.stage\n"
        "from tasks import methods\n"
        "methods.load('compressors', 'none')\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}).returncode == 0


def test_the_best_of_the_grid_is_kept_and_beats_scales_that_are_wrong(compress):
    # The card's sixth check, on a model of 80,000 weights: alpha = 0.1 and 10 stand for uncalibrated scales.
    _, metrics, run = compress("compeft", method=GRID)
    losses = {candidate["settings"]["alphas"][0]: candidate["loss"] for candidate in metrics["tried"]}
    assert list(losses) == [0.1, 1.0, 2.0, 10.0]
    assert metrics["settings"]["alphas"] == [min(losses, key=losses.get)]
    assert metrics["loss"]["after"] == min(losses.values())
    _, stc, _ = compress("compeft", "stc", method={"densities": [0.5], "rule": "stc"})
    assert metrics["loss"]["after"] <= stc["loss"]["after"]
    assert max(metrics["loss"]["after"], stc["loss"]["after"]) < min(losses[0.1], losses[10.0])
    assert f"{metrics['kept']['lora_B']:.1%} of lora_B kept" in run.said[-1]


def test_a_candidate_without_a_finite_loss_is_never_kept(compress, monkeypatch):
    measured = iter([2.0, math.nan, 1.9, 1.8, math.inf])
    monkeypatch.setattr(scoring, "mean", lambda _: next(measured))
    _, metrics, _ = compress("compeft", method=GRID)
    assert [candidate["loss"] for candidate in metrics["tried"]] == [None, 1.9, 1.8, None]
    assert (metrics["settings"]["alphas"], metrics["loss"]["after"]) == ([2.0], 1.8)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ((2.0, *[math.nan] * 4), "compeft: none of the 4 settings that were tried"),
        ((math.nan,), "r0 has a validation loss of nan"),
    ],
)
def test_where_no_loss_is_finite_nothing_is_written(compress, monkeypatch, tmp_path, losses, message):
    measured = iter(losses)
    monkeypatch.setattr(scoring, "mean", lambda _: next(measured))
    with pytest.raises(ValueError, match=message):
        compress("compeft", method=GRID)
    assert not (tmp_path / "first/compression.json").exists()


def test_a_limit_that_leaves_no_validation_example_is_named(compress):
    with pytest.raises(ValueError, match=r"valid.parquet holds no example of at most compress\.max_tokens=16 tokens"):
        compress("compeft", method=GRID, max_tokens=16)


def test_texts_beyond_the_context_are_refused_with_the_setting(compress, inputs, tmp_path):
    inputs["base"] = small.short(inputs["base"], tmp_path / "short", 30)
    with pytest.raises(
        ValueError, match=r"has 30 tokens, and a text of \d+ tokens .* Set compress\.max_tokens: 30 or less"
    ):
        compress("compeft", method=GRID)


def test_the_kept_shares_of_a_and_of_b_add_up_to_the_density(compress, inputs):
    _, metrics, _ = compress("compeft", method=GRID)
    tensors = load_file(inputs["tuned"] / "r0" / "adapter_model.safetensors")
    sizes = {half: sum(t.numel() for name, t in tensors.items() if half in name) for half in metrics["kept"]}
    assert set(sizes) == {"lora_A", "lora_B"}
    n = sum(sizes.values())
    assert sum(metrics["kept"][half] * size for half, size in sizes.items()) == pytest.approx(0.5 * n, abs=3)


def test_pruning_nothing_gives_the_adapter_back_bit_for_bit(compress, inputs, tmp_path):
    folder, metrics, _ = compress("compeft", method={"densities": [1.0], "rule": "prune"})
    compressed.unpack(folder, tmp_path)
    expected = load_file(inputs["tuned"] / "r0" / "adapter_model.safetensors")
    unpacked = load_file(tmp_path / "adapter_model.safetensors")
    assert unpacked.keys() == expected.keys()
    assert all(torch.equal(unpacked[name], tensor) for name, tensor in expected.items())
    assert metrics["loss"]["after"] == metrics["loss"]["before"]


def test_of_a_whole_model_the_difference_to_its_base_is_compressed_its_tied_head_once(inputs):
    delta = compressed.read_delta(inputs["tuned"] / "r1", inputs["base"])
    model, base = small.load(inputs["tuned"] / "r1"), small.load(inputs["base"])
    assert sum(tensor.numel() for tensor in delta.values()) == model.num_parameters()
    assert "lm_head.weight" not in delta
    start = dict(base.named_parameters())
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(start[name] + delta[name], tensor)


def test_a_whole_model_is_its_base_plus_the_quantised_difference(compress, inputs):
    folder, metrics, _ = compress("compeft", round="r1", method=GRID)
    delta = compressed.read_delta(inputs["tuned"] / "r1", inputs["base"])
    part = methods.load("compressors", "compeft")
    config = methods.spec("compressors", "compeft").config.model_validate(metrics["settings"])
    expected = part.quantise(delta, config)
    model, _ = models.load(folder, inputs["base"])
    start = dict(small.load(inputs["base"]).named_parameters())
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, start[name] + expected[name]), name
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_an_ia3_is_compared_with_one(inputs, tmp_path):
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    model = get_peft_model(small.load(inputs["base"]), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, 1.0, 0.1)
    model.save_pretrained(tmp_path / "ia3")
    saved = load_file(tmp_path / "ia3" / "adapter_model.safetensors")
    delta = compressed.read_delta(tmp_path / "ia3", inputs["base"])
    assert all(torch.equal(delta[name], tensor - 1) for name, tensor in saved.items())

    part = contract.part("compressors", "compeft", densities=(0.3,), alphas=(1.5,))
    quantised = part.method.quantise(delta, part.config)
    folder = tmp_path / "stored"
    folder.mkdir()
    compressed.copy_facts(tmp_path / "ia3", folder)
    compressed.write_delta(folder, part.method.encode(quantised))
    compressed.write_note(folder, "compeft", part.config.model_dump(mode="json"))
    checkpoints.write_card(folder)
    (tmp_path / "unpacked").mkdir()
    compressed.unpack(folder, tmp_path / "unpacked")
    # All entries in one vector, as the paper has it: 1 + a, 1 and 1 - a.
    a = 1.5 * torch.cat([delta[name].flatten() for name in sorted(delta)]).std().item()
    values = torch.cat(
        [tensor.flatten() for tensor in load_file(tmp_path / "unpacked" / "adapter_model.safetensors").values()]
    )
    assert values.unique().tolist() == [pytest.approx(value, rel=1e-6) for value in (1 - a, 1.0, 1 + a)]


def test_an_adapter_that_starts_elsewhere_is_no_difference(inputs, tmp_path):
    (tmp_path / checkpoints.PEFT_ADAPTER).write_text(json.dumps({"peft_type": "VERA"}))
    with pytest.raises(ValueError, match=r"is an adapter of kind VERA.*Compress LORA or IA3, or store the whole model"):
        compressed.read_delta(tmp_path, inputs["base"])


@pytest.mark.parametrize(
    ("name", "reason"), [("mola", "Every token has its own mixture"), ("dept", "A prompt adds positions")]
)
def test_an_adapter_that_no_lora_computes_is_refused_with_its_reason(inputs, tmp_path, name, reason):
    (tmp_path / checkpoints.OWN_ADAPTER).write_text(json.dumps({"adapter": name, "params": {}}))
    with pytest.raises(ValueError, match=rf"is an adapter of method {name}, and compressors take a LoRA\. {reason}"):
        compressed.read_delta(tmp_path, inputs["base"])


def test_a_difference_is_not_added_to_another_base(compress, inputs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(inputs["base"], other)
    tensors = load_file(other / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, other / "model.safetensors", {"format": "pt"})
    checkpoints.write_card(other)
    for round in ("r0", "r1"):
        folder, _, _ = compress("compeft", round, round=round, method=GRID)
        with pytest.raises(ValueError, match="was trained on weights"):
            models.load(folder, other)
        with pytest.raises(ValueError, match="is a difference: name the model"):
            models.load(folder)


def test_a_model_of_another_shape_than_its_base_has_no_difference(inputs, tmp_path):
    deeper = small.fetch(tmp_path, {"from": "config", "layers": 3})["base"]
    with pytest.raises(ValueError, match=r"has another shape than .* \(model\.layers\.2"):
        compressed.read_delta(deeper, inputs["base"])


@pytest.mark.parametrize("name", EVERY)
def test_it_is_opened_in_the_precision_asked_for(compress, inputs, name):
    folder, _, _ = compress(name)
    model, _ = models.load(folder, inputs["base"], dtype="bfloat16")
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    assert kinds == {torch.bfloat16}
    assert loss(inputs, folder, "bfloat16") == pytest.approx(loss(inputs, folder), abs=0.05)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in OF_DIFFERENCES])
def test_a_model_that_does_not_merge_is_not_stored_whole(compress, inputs, monkeypatch, name):
    def unmerged(path, model, *, merge, put=checkpoints.put_on):
        return put(path, model, merge=False)

    monkeypatch.setattr(checkpoints, "put_on", unmerged)
    with pytest.raises(ValueError, match="cannot be merged into plain weights"):
        compress(name)


def test_a_compressor_that_changed_the_tokenizer_is_caught(compress, monkeypatch):
    from tasks.methods.compressors.gguf import method as gguf

    def spoilt(writer, tokenizer, size, add=gguf._add_tokenizer):
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        words = parts["model"]["vocab"]
        words["y"], words["e"] = words["e"], words["y"]
        other = type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(parts)), eos_token=tokenizer.eos_token)
        other.chat_template = tokenizer.chat_template
        add(writer, other, size)

    monkeypatch.setattr(gguf, "_add_tokenizer", spoilt)
    with pytest.raises(ValueError, match="compressor gguf changed the tokenizer"):
        compress("gguf")


@pytest.mark.parametrize("grid", ["Q4_1", None])
def test_a_base_off_a_coarse_grid_is_told_of(compress, inputs, tmp_path, grid):
    inputs["base"] = shutil.copytree(inputs["base"], tmp_path / "base")
    checkpoints.write_card(inputs["base"], **checkpoints.read_card(inputs["base"]) | {"grid": grid})
    _, _, run = compress("gguf")
    assert any(f"dequantised from {grid}" in line for line in run.said) == bool(grid)


@pytest.mark.parametrize("chosen", ["r0", "r1"])
def test_the_best_round_is_the_one_that_was_selected(compress, inputs, chosen):
    inputs["selection"].write_text(json.dumps({"round": chosen}))
    folder, metrics, _ = compress("none", method={})
    assert metrics["round"] == chosen
    assert checkpoints.read_card(folder)["compressed"] == checkpoints.read_card(inputs["tuned"] / chosen)["weights"]


def test_a_round_that_is_not_there_is_named(compress):
    with pytest.raises(ValueError, match=r"compress\.round: there is no .*r7. There are: best, r0, r1\."):
        compress("none", method={}, round="r7")
