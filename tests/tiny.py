"""Models, sequences and settings that are small enough for tests of milliseconds."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.records import Example, Message
from tasks.core.sequences import Encoded
from tasks.methods.objectives.fait.column import CHAR, CODE, LINE
from tests.support import ScratchRun

ALONE = {
    "gemma2": {"head_dim": 8, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    "qwen3_5_text": {
        "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "stablelm": {},
    "bloom": {"n_head": 4, "n_layer": 2},
    "mamba": {},
}  # fmt: skip
"""Families for which the engine reads the sequences of a row one after the other, because their scores or logits are capped, their attention has
sinks, or their layers pass states from token to token."""

FP32 = Compute(precision="fp32", threads=1)
BF16 = Compute(precision="bf16", threads=1)


def fetch(
    folder: Path, model: dict[str, Any], embedder: dict[str, Any] | None = None, *, tools: bool = False
) -> dict[str, Path]:
    """Run stage `fetch` with these settings, and return the paths of its outputs in `folder`."""
    from tasks.stages.fetch import stage
    from tasks.stages.fetch.config import StageConfig

    outputs = {"base": folder / "base", "embedder": folder / "embedder"}
    config = StageConfig.model_validate({"fetch": {"model": model, "embedder": embedder, "tools": tools}})
    stage.main({}, outputs, config, ScratchRun(folder))
    return outputs


def embedder(folder: Path, words: list[str]) -> Path:
    """Write a sentence-transformers model that counts these words."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW, Normalize

    torch.manual_seed(0)
    SentenceTransformer(modules=[BoW(vocab=words), Normalize()], device="cpu").save(str(folder))
    return folder


def encoder(folder: Path, tokenizer: Path) -> Path:
    """Write a sentence-transformers model of random weights (a BERT with mean pooling) with the tokenizer of another folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    body = folder / "body"
    BertModel(BertConfig(**sizes, intermediate_size=64, initializer_range=0.2)).save_pretrained(body)
    words = AutoTokenizer.from_pretrained(tokenizer)
    words.chat_template = None  # with a chat template, sentence-transformers embeds texts as turns of a chat
    words.save_pretrained(body)
    SentenceTransformer(modules=[Transformer(str(body)), Pooling(32)], device="cpu").save(str(folder))
    return folder


def example(number: int = 0, *, response: str = "yes", prompt: str = "Well?", **fields: Any) -> Example:
    """Return an example with all fields that its table requires."""
    basics: dict[str, Any] = {
        "id": f"example-{number:04d}",
        "messages": [Message("user", prompt), Message("assistant", response)],
        "task": "chat",
        "domain": "tests",
        "group": f"group-{number % 3}",
        "split": "train",
        "source": "by hand",
        "license": "Apache-2.0",
    }
    return Example(**basics | fields)


def sequences(count: int, *, seed: int = 0, longest: int = 24, vocabulary: int = 256) -> list[Encoded]:
    """Return sequences of random tokens and lengths, each with a prompt that is not trained on."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        length = draw.randint(3, longest)
        prompt = draw.randint(1, length - 1)
        ids = [draw.randrange(vocabulary) for _ in range(length)]
        made.append(Encoded(f"sequence-{number}", ids, [0.0] * prompt + [1.0] * (length - prompt)))
    return made


def stored(examples: list[Example], encoder: Any, run: ScratchRun) -> Any:
    """Return the sequences of examples in the form in which `tune` stores them."""
    from tasks.engine import tokenized
    from tasks.io import tables

    table = run.work / "examples.parquet"
    tables.write(table, examples, Example)
    stored, _ = tokenized.stored_examples(table, run.work, encoder, run, "tune r0")
    return stored


def paired(sequence: Encoded) -> Encoded:
    """Return the sequence with a wrong counterpart. They differ in the last token, which both mark."""
    marks = [0 if weight == 0 else CODE for weight in sequence.weights]
    marks[-1] |= LINE | CHAR
    columns = {"marks": marks}
    wrong = replace(sequence, ids=[*sequence.ids[:-1], (sequence.ids[-1] + 1) % 200], columns=columns)
    return replace(sequence, columns=columns, auxiliary=(wrong,))


def load(folder: Path) -> Any:
    """Load the model in `folder` by transformers alone."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def decided(folder: Path) -> tuple[Any, Any]:
    """Return the model in `folder` with weights of a large variance, so that its answers depend on the prompt, and its tokenizer."""
    import torch

    from tasks.io.weights import checkpoints

    model, tokenizer = checkpoints.load(folder)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model, tokenizer


def short(base: Path, folder: Path, context: int) -> Path:
    """Write a copy of a model with a context of `context` tokens."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": context}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def add_template(model: Path, name: str, template: str = "{{ tools }}") -> None:
    """Write a chat template of this name beside the default one of a model's tokenizer."""
    folder = model / "additional_chat_templates"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jinja").write_text(template)


def without_limit(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `checkpoints.load` or `models.load` so that the config of the loaded model has no maximum length, as in some families."""

    def of(*folders: Any, **options: Any) -> Any:
        network, tokenizer = load(*folders, **options)
        kind = type(network.config)
        network.config.__class__ = type(kind.__name__, (kind,), {})
        network.config.__class__.max_position_embeddings = property()
        return network, tokenizer

    return of


def learn(model: Any, prompt: list[int], answer: list[int]) -> None:
    """Train a model until it gives this answer to the prompt."""
    import torch

    ids = torch.tensor([prompt + answer])
    labels = torch.tensor([[-100] * len(prompt) + answer])
    optimizer = torch.optim.AdamW(model.train().parameters(), 3e-3)
    for _ in range(120):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def qwen2() -> Any:
    """Return a Qwen2 of random weights with grouped heads, biases that are not zero, and an untied output head."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=259,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=False,
        )
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def gpt2() -> Any:
    """Return a GPT-2 of random weights. Its positions are learnt vectors, so that a wrong position changes the result."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    sizes = {"vocab_size": 259, "n_positions": 256, "n_embd": 48, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, initializer_range=0.2))


def family(name: str, **config: Any) -> Any:
    """Return a model of a family of transformers. Its weights have a variance so large that a wrong token, position or scale changes the result."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**sizes, **heads, **tokens, **config}))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()
