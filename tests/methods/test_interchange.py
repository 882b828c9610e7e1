"""Every cell of the table of interchange: the other program opens the file and computes the same, or there is nothing to open."""

import shutil

import gguf
import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tasks import methods
from tasks.core.weights.merging import Merge
from tasks.engine.training import store
from tasks.io.weights import checkpoints, compressed, gguf_lora, merges, models
from tasks.io.weights.merges import Expert
from tasks.methods import interchange
from tasks.methods.compressors import WeightCompressor
from tests import tiny as small
from tests.methods import contract

BF16 = {"bitsandbytes"}
"""Methods whose result transformers computes in the type that it is stored in."""
CELLS = [
    pytest.param(family, name, reader, id=f"{name}-{reader}")
    for family, name in interchange.rows()
    for reader in interchange.READERS
]


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """Returns the folder that a method leaves of the tiny model, after a few steps, and the token losses that Ratchet computes of it."""
    kept = {}

    def of(family, name):
        if (family, name) not in kept:
            folder = tmp_path_factory.mktemp("made") / name
            (_compressed if family == "compressors" else trained)(family, name, folder, tiny)
            dtype = "bfloat16" if name in BF16 else "float32"
            kept[family, name] = folder, contract.losses(models.load(folder, tiny, dtype=dtype)[0])
        return kept[family, name]

    return of


def trained(family, name, folder, base):
    adapter = {"adapters": "lora"} if family == "selectors" and methods.spec(family, name).needs_linear else {}
    parts = contract.composition(**{**adapter, family: name})
    attached, optimizer = contract.composed(checkpoints.load(base)[0], parts, hasty=True)
    contract.steps(attached, optimizer, parts)
    store.save(attached, parts, checkpoints.load_tokenizer(base), folder)


def _compressed(family, name, folder, base):
    """A LoRA compressed as a change, or with its base as weights."""
    part, lora = contract.part(family, name), folder.with_name("lora")
    trained("adapters", "lora", lora, base)
    checkpoints.write_card(lora)
    folder.mkdir()
    config = part.config
    if isinstance(part.method, WeightCompressor):
        part.method.write(*checkpoints.load(lora, base), folder, config)
    else:
        config = part.method.candidates(config)[-1]
        compressed.copy_facts(lora, folder)
        compressed.write_delta(
            folder, part.method.encode(part.method.quantise(compressed.read_delta(lora, base), config))
        )
    compressed.write_note(folder, name, config.model_dump(mode="json"))
    checkpoints.write_card(folder)


@pytest.mark.parametrize(("family", "name", "reader"), CELLS)
def test_a_reader_opens_it_and_computes_the_same_or_has_nothing_to_open(tiny, tmp_path, made, family, name, reader):
    folder, expected = made(family, name)
    read = {"peft": by_peft, "transformers": by_transformers, "gguf": by_gguf, "gguf_lora": by_gguf_lora}[reader]
    cell = interchange.cells(family, name)[reader]
    if not cell.opens:
        assert cell.note, "it says why not"
        with pytest.raises((ValueError, OSError)):
            read(folder, tiny, tmp_path)
        return
    found = contract.losses(read(folder, tiny, tmp_path))
    tolerance = 0.04 if name in BF16 else 1e-4  # between 4 and 8 bf16 has steps of 0.031
    torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=tolerance)
    start = contract.losses(small.load(tiny))
    assert (found.float() - start).abs().max() > 2 * tolerance, "nothing was trained"


def by_peft(folder, base, scratch):
    """The model by peft, on the base by transformers."""
    return PeftModel.from_pretrained(small.load(base), str(folder)).get_base_model()


def by_transformers(folder, base, scratch):
    """The model by transformers: what a compressor wrote as it is, all else merged into plain weights."""
    if checkpoints.is_compressed(folder):
        file = {"gguf_file": "model.gguf"} if (folder / "model.gguf").is_file() else {}
        return AutoModelForCausalLM.from_pretrained(folder, **file)
    merges.write(scratch / "plain", base, [Expert(folder)], Merge())
    return AutoModelForCausalLM.from_pretrained(scratch / "plain")


def by_gguf(folder, base, scratch):
    """The model by transformers' reader of GGUF, from a file of whole weights."""
    if not checkpoints.is_compressed(folder):
        write_gguf(scratch, checkpoints.load(folder, base)[0], base)
        folder = scratch
    GGUFReader(folder / "model.gguf")
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf")


def by_gguf_lora(folder, base, scratch):
    """The base as a GGUF of whole weights, to which each product of the adapter's file is added as llama.cpp adds it."""
    gguf_lora.write(scratch / "lora.gguf", folder, base)
    adapter, plain = GGUFReader(scratch / "lora.gguf"), small.load(base)
    assert adapter.fields["adapter.type"].contents() == "lora"
    alpha = adapter.fields["adapter.lora.alpha"].contents()
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in adapter.tensors}
    write_gguf(scratch, plain, base)
    added = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in GGUFReader(scratch / "model.gguf").tensors}
    targets = {name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")}
    assert targets < added.keys()
    for name in targets:
        A_RI, B_OR = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        added[name] += alpha / B_OR.shape[1] * (B_OR @ A_RI)
    return filled(plain, added)


def filled(model, tensors):
    """The model with the weights of a GGUF, whose rows of q and k go back from pairs to halves."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in model.named_parameters():
        weight = tensors[names.get_name(name, try_suffixes=(".weight", ".bias"))]
        if number := heads.get(name.split(".")[-2]):
            weight = weight.view(number, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        parameter.data.copy_(weight)
    return model


def write_gguf(folder, model, base):
    part = contract.part("compressors", "gguf", type="f32")
    part.method.write(model, checkpoints.load_tokenizer(base), folder, part.config)


def test_the_table_has_every_method_that_leaves_something():
    rows = interchange.rows()
    assert {family for family, _ in rows} == set(interchange.FAMILIES)
    assert ("adapters", "corda") in rows
    for family, name in rows:
        assert interchange.cells(family, name).keys() == interchange.READERS.keys()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank_pattern": {"q_proj": 3}}, "is a LoRA whose layers differ in rank or alpha"),
        ({"use_dora": True}, "is a DoRA"),
        (
            {"init_lora_weights": "pissa"},
            r"is a LoRA that took a part of the base's weights \(init_lora_weights: pissa\)",
        ),
        ({"init_lora_weights": "olora"}, "is a LoRA that took a part of the base's weights"),
        (
            {"modules_to_save": ["norm"]},
            r"holds base_model\.model\.model\.\S*norm\.weight, which does not belong to a LoRA",
        ),
    ],
)
def test_what_a_gguf_lora_cannot_express_is_refused(tiny, tmp_path, settings, words):
    import peft

    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **settings)
    peft.get_peft_model(small.load(tiny), config).save_pretrained(tmp_path / "made")
    with pytest.raises(ValueError, match=rf"{words}.*Write it merged: `ratchet merge`"):
        gguf_lora.write(tmp_path / "lora.gguf", tmp_path / "made", tiny)
    assert not (tmp_path / "lora.gguf").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "mola",
            r"is an adapter of method mola, and llama\.cpp adds only LoRA\. Every token has .* for all tokens\.$",
        ),
        ("soka", r"is an adapter of method soka, .* larger than the weight\. Write it merged: `ratchet merge`"),
        ("compeft", r"is a compressed model, .*Name the model that it was made of"),
        ("none", r"is not an adapter, .*Write a whole model by compressor gguf\.$"),
    ],
)
def test_where_there_is_no_lora_the_message_offers_what_the_method_can(tiny, tmp_path, made, name, words):
    family = "compressors" if name == "compeft" else "adapters"
    folder = tiny if name == "none" else made(family, name)[0]
    with pytest.raises(ValueError, match=words):
        gguf_lora.write(tmp_path / "lora.gguf", folder, tiny)


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_a_lora_of_a_quantised_base_is_not_written_for_plain_weights(tiny, tmp_path, made, base):
    over = shutil.copytree(made("adapters", "lora")[0], tmp_path / "over")
    checkpoints.write_card(over, method={"base": base})
    with pytest.raises(
        ValueError, match=rf"over was trained on base '{base}' and cannot be written as a LoRA of plain"
    ):
        gguf_lora.write(tmp_path / "lora.gguf", over, tiny)
    assert not (tmp_path / "lora.gguf").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_lora_in_half_precision_is_written_as_one_in_fp32(tiny, tmp_path, made, dtype):
    folder, expected = made("adapters", "lora")
    half = shutil.copytree(folder, tmp_path / "half")
    tensors = {name: tensor.to(dtype) for name, tensor in checkpoints.read_adapter(folder).items()}
    save_file(tensors, half / checkpoints.PEFT_WEIGHTS)
    found = contract.losses(by_gguf_lora(half, tiny, tmp_path))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)


def test_the_scale_of_a_rank_stabilised_lora_is_in_the_files_alpha(tiny, tmp_path):
    import peft

    torch.manual_seed(0)
    model = peft.get_peft_model(
        small.load(tiny), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], use_rslora=True)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "made")
    found = contract.losses(by_gguf_lora(tmp_path / "made", tiny, tmp_path))
    torch.testing.assert_close(found, contract.losses(model), rtol=1e-4, atol=1e-4)


def test_the_command_writes_a_gguf_lora(tiny, tmp_path, made, capsys):
    from flows.commands.delta import delta

    folder, _ = made("adapters", "lora")
    delta([str(folder)], to=tmp_path / "lora.gguf", base=tiny)
    assert "tensors of a LoRA" in capsys.readouterr().out
    assert GGUFReader(tmp_path / "lora.gguf").tensors
