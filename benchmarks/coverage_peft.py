"""Classes of peft as `coverage.py` tries them: trained as peft runs them, and a step of theirs in packs."""

import dataclasses
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.coverage_models import RANK, RATE, STEPS, base, batch, bytes_of, said, scratch, texts

TARGETS = {"llama": ["q_proj", "v_proj"], "qwen2": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}
NORMS = {"llama": ["input_layernorm"], "qwen2": ["input_layernorm"], "gpt2": ["ln_1"]}
EMBEDDING = {"llama": "embed_tokens", "qwen2": "embed_tokens", "gpt2": "wte"}
PROMPTS = {"num_virtual_tokens": 4}
CLASSES: dict[str, dict[str, Any]] = {
    "PrefixTuningConfig": PROMPTS,
    "PromptTuningConfig": PROMPTS,
    "PromptEncoderConfig": PROMPTS | {"encoder_hidden_size": 16},
    "MultitaskPromptTuningConfig": PROMPTS | {"num_tasks": 2},
    "CartridgeConfig": PROMPTS,
    "CPTConfig": {"cpt_token_ids": [65, 66, 67, 68], "cpt_mask": [1] * 4, "cpt_tokens_type_mask": [1, 2, 3, 4]},
    "AdaptionPromptConfig": {"adapter_len": 4, "adapter_layers": 1},
    "PolyConfig": {"n_tasks": 2, "n_skills": 2},
    "AdaLoraConfig": {"total_step": STEPS, "init_r": 6, "target_r": RANK},
    "VBLoRAConfig": {"num_vectors": 32, "vector_length": 8},
    "C3AConfig": {"block_size": 8},
    "OSFConfig": {"effective_rank": RANK},
    "WaveFTConfig": {"n_frequency": 64},
    "RoadConfig": {"group_size": 8},
    "AdamssConfig": {"num_subspaces": 2},
    "TinyLoraConfig": {"u": 16},
    "XLoraConfig": {"xlora_size": 16},
}
"""Settings by class of peft where there is no default, or one for larger models."""


def wrapped(name: str, settings: Mapping[str, Any], kind: str, model: Any) -> tuple[Any, Any]:
    """Return a model with the modules of a class of peft, and its optimizer."""
    import peft
    import torch
    from peft import optimizers
    from peft.tuners.lora.arrow import create_arrow_model

    fan = {"fan_in_fan_out": True} if kind == "gpt2" else {}
    lora: dict[str, Any] = {"r": RANK, "lora_alpha": 8, "target_modules": TARGETS[kind], "task_type": "CAUSAL_LM"} | fan
    plain = partial(torch.optim.AdamW, lr=RATE)
    match name.removeprefix("peft."):
        case "EvaConfig":
            config = peft.LoraConfig(**lora, init_lora_weights="eva", eva_config=peft.EvaConfig())
            made = peft.get_peft_model(model, config)
            peft.initialize_lora_eva_weights(made, [{"input_ids": batch(texts()[1], step)} for step in range(4)])
        case "LoftQConfig":
            config = peft.LoraConfig(**lora, init_lora_weights="loftq", loftq_config=peft.LoftQConfig())
            made = peft.get_peft_model(model, config)
        case "VeloraConfig":
            made = peft.get_peft_model(model, peft.LoraConfig(**lora, velora_config=peft.VeloraConfig(num_groups=RANK)))
        case "ArrowConfig":
            saved = [saved_lora(kind, lora)]
            made = create_arrow_model(model, saved, peft.ArrowConfig(top_k=1))
        case "XLoraConfig":
            model.config.use_cache = False
            adapters = {"0": saved_lora(kind, lora)}
            sizes = CLASSES["XLoraConfig"] | {"hidden_size": model.config.hidden_size, "adapters": adapters}
            made = peft.get_peft_model(model, peft.XLoraConfig(**sizes, task_type="CAUSAL_LM"))
        case "optimizers.create_loraplus_optimizer":
            made = peft.get_peft_model(model, peft.LoraConfig(**lora))
            return made, optimizers.create_loraplus_optimizer(made, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16)
        case "optimizers.create_lorafa_optimizer":
            made = peft.get_peft_model(model, peft.LoraConfig(**lora))
            return made, optimizers.create_lorafa_optimizer(made, r=RANK, lora_alpha=8, lr=RATE)
        case other:
            made = peft.get_peft_model(model, plain_config(other, settings, kind, fan))
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("nothing trains: it leaves every weight frozen")
    return made, plain(trained)


def saved_lora(kind: str, lora: Mapping[str, Any]) -> str:
    """Return the folder of a random LoRA, which some classes choose among."""
    import peft

    folder = scratch() / f"lora-{kind}"
    if not folder.exists():
        config = peft.LoraConfig(**lora, init_lora_weights=False)  # which changes something
        peft.get_peft_model(loaded(kind), config).save_pretrained(folder)
    return str(folder)


def plain_config(name: str, settings: Mapping[str, Any], kind: str, fan: Mapping[str, Any]) -> Any:
    """Return a config of peft's with targets and ranks for a tiny model."""
    import peft

    made = getattr(peft, name)
    fields = {field.name for field in dataclasses.fields(made)}
    targets = {"LNTuningConfig": NORMS[kind], "TrainableTokensConfig": [EMBEDDING[kind]]}.get(name, TARGETS[kind])
    chosen: dict[str, Any] = {"r": RANK, "target_modules": targets, "token_indices": [65, 66]} | fan
    chosen = {key: value for key, value in chosen.items() if key in fields}
    if name in ("AdaptionPromptConfig", "ShadowConfig"):
        del chosen["target_modules"]  # whole blocks
    return made(**chosen | CLASSES.get(name, {}) | dict(settings), task_type="CAUSAL_LM")


def loaded(kind: str) -> Any:
    """Return the tiny model."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base(kind), attn_implementation="eager")


def measured(name: str, settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Train a class of peft as peft runs it, and return its figures."""
    import torch

    from tasks.engine.training.allocations import allocations, saved_bytes

    general, own = texts()
    untuned = loaded(kind)
    before = [loss_of(untuned, rows) for rows in (general, own)]
    torch.manual_seed(0)
    model, optimizer = wrapped(name, settings, kind, loaded(kind))
    try:
        saved = saved_bytes(model.train(), asked(name, batch(own, 0)))
    except NotImplementedError:  # a sparse tensor has no storage whose bytes could be counted
        saved = None
    with allocations() as running:
        for step in range(STEPS):
            optimizer.zero_grad()
            model(**asked(name, batch(own, step)))["loss"].backward()
            optimizer.step()
    after = [loss_of(model, rows, name) for rows in (general, own)]
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    model.save_pretrained(folder)
    return {
        "trains": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "merges": merges(model, name),
        "saved": saved,
        "peak": max(running),
        "file": bytes_of(folder),
        "learned": after[1] - before[1],
        "forgot": after[0] - before[0],
        "packs": in_packs(name, settings, kind),
    }


def asked(name: str, rows: Any) -> dict[str, Any]:
    """Return the arguments of a forward over some rows."""
    import torch

    tasks = {"task_ids": torch.zeros(len(rows), dtype=torch.long)}
    return {"input_ids": rows, "labels": rows} | (
        tasks if name in ("peft.PolyConfig", "peft.MultitaskPromptTuningConfig") else {}
    )


def loss_of(model: Any, rows: Any, name: str = "") -> float:
    """Return the loss of a model on rows, in nats per token."""
    import torch

    with torch.no_grad():
        return float(model.eval()(**asked(name, rows))["loss"])


def merges(model: Any, name: str) -> bool:
    """Return whether peft merges a trained model into one that computes the same."""
    import torch

    if not hasattr(model, "merge_and_unload"):  # prompts, which are no change of weights
        return False
    rows = asked(name, batch(texts()[0], 0))
    with torch.no_grad():
        expected = model.eval()(**rows)["logits"]
        try:
            merged = model.merge_and_unload()
        except (NotImplementedError, ValueError):  # by the class, and where this base has no bias to merge into
            return False
        logits = merged.eval()(input_ids=rows["input_ids"])["logits"]
    return logits.shape == expected.shape and bool(torch.allclose(logits, expected, atol=1e-3))


def in_packs(name: str, settings: Mapping[str, Any], kind: str) -> str:
    """Return the reason why a step in packs does not train the parameters of a class of peft; empty if it does."""
    from tasks.core.weights.surgery import plain
    from tasks.engine.forward import bind_loss
    from tests.methods import contract

    try:
        made, _ = wrapped(name, settings, kind, loaded(kind))
        bind_loss(plain(made), contract.part("objectives", "cross_entropy"), contract.part("adapters", "none"))
        plain(made).train()(**contract.batch())["loss"].backward()
    except Exception as error:  # whatever peft raises is the reason
        return said(error)
    reached = [parameter.grad is not None for parameter in made.parameters() if parameter.requires_grad]
    return "" if any(reached) else "no gradient reaches what it trains"
