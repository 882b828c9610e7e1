"""Direct preference optimisation (Rafailov et al., 2305.18290) by trl, on the pairs of fault-aware fine-tuning."""

import math
import tempfile
from typing import Any

BETA = 0.1


def trained(
    model: Any, tokenizer: Any, sequences: list[Any], plan: Any, sections: Any, compute: Any, rate: float
) -> Any:
    """Train by DPO on the pairs in `plan`'s packs of `sequences`, in the same order and number of steps; return the model."""
    import copy

    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from tasks import methods
    from tasks.engine import device
    from tasks.engine.packing import schedule

    packs = schedule(sequences, plan.pack_tokens, plan.max_tokens, plan.epochs, plan.seed)
    rows = [texts_of(sequence, tokenizer) for pack in packs for sequence in pack.sequences]
    steps = math.ceil(len(packs) / plan.accumulation)
    reference = None if plan.adapter != "none" else copy.deepcopy(model)
    if plan.adapter != "none":
        torch.manual_seed(plan.seed)
        adapter_config = methods.spec("adapters", plan.adapter).config.model_validate(sections[plan.adapter])
        model = methods.load("adapters", plan.adapter).attach(model, adapter_config)
    with tempfile.TemporaryDirectory() as work:
        arguments = DPOConfig(
            output_dir=work, beta=BETA, learning_rate=rate, lr_scheduler_type=plan.schedule, warmup_steps=math.ceil(plan.warmup * steps),
            per_device_train_batch_size=1, gradient_accumulation_steps=math.ceil(len(rows) / steps), max_steps=steps,
            train_sampling_strategy="sequential",
            max_length=plan.pack_tokens, bf16=device.precision(compute) == "bf16", use_cpu=True, seed=plan.seed,
            report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no", gradient_checkpointing=False,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=model,
            ref_model=reference,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        trainer.train()
    return model.merge_and_unload() if plan.adapter != "none" else model


def texts_of(sequence: Any, tokenizer: Any) -> dict[str, str]:
    """Return a pair in the format of trl's trainer."""
    start = next(place for place, weight in enumerate(sequence.weights) if weight > 0)
    return {
        "prompt": tokenizer.decode(sequence.ids[:start]),
        "chosen": tokenizer.decode(sequence.ids[start:]),
        "rejected": tokenizer.decode(sequence.auxiliary[0].ids[start:]),
    }
