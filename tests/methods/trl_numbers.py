"""Write data/{dpo,kto,orpo,simpo}.json: the losses of TRL's trainers for the pairs of `preferences`. Needs the package `trl`.

    python -m tests.methods.trl_numbers FOLDER

FOLDER is a scratch folder. TRL is not a dependency of the project: install it into another environment that sees the packages of this one
(`pip install --no-deps trl==1.16.0`). Each trainer is created in the way its users do, with placeholder rows, and then computes the loss of one
batch of the pairs. With other padding or batches, the last digits of a float32 differ.
"""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from tasks.stages.fetch.random_init import byte_tokenizer
from tests.methods.preferences import PAIRS, model

DATA = Path(__file__).parent / "data"
SIDES = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
LABELS = Dataset.from_list([{"prompt": "a", "completion": text, "label": text == "b"} for text in "bc"])
IGNORED = -100
"""The label of a token that is not trained, in TRL."""
BETTER = [(prompt, better) for prompt, better, _ in PAIRS]
WORSE = [(prompt, worse) for prompt, _, worse in PAIRS]
Answered = list[tuple[list[int], list[int]]]
"""Prompts, each with its answer."""


def main(folder: Path) -> None:
    """Write the numbers of every objective."""
    kto = {"kto": kto_numbers(folder, (0.0, 0.5)), "flipped": kto_numbers(folder, (0.5, 0.0))}
    numbers = {"dpo": dpo_numbers(folder), "kto": kto, "orpo": orpo_numbers(folder), "simpo": simpo_numbers(folder)}
    for name, record in numbers.items():
        (DATA / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def dpo_numbers(folder: Path) -> dict[str, Any]:
    """Return the loss of DPO for two different models as reference and model."""
    from trl import DPOConfig, DPOTrainer

    settings = {"beta": 0.3}
    trainer = DPOTrainer(model(0.0), model(0.5), DPOConfig(**_arguments(folder), **settings), **_given(SIDES))
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model, _batch([*BETTER, *WORSE]), return_outputs=False)
    source = "trl.trainer.dpo_trainer.DPOTrainer._compute_loss, loss type sigmoid"
    return {"source": _source(source), "settings": settings, "loss": loss.item()}


def kto_numbers(folder: Path, phases: tuple[float, float]) -> dict[str, Any]:
    """Return the loss of KTO for a model and a reference of these phases. The unrelated answer of a row is that of the row before."""
    from trl import KTOConfig, KTOTrainer

    settings = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.7}
    trainer = KTOTrainer(*map(model, phases), KTOConfig(**_arguments(folder), **settings), **_given(LABELS))
    answered = [row for pair in zip(BETTER, WORSE, strict=True) for row in pair]
    foreign = [(row[0], before[1]) for row, before in zip(answered, [answered[-1], *answered[:-1]], strict=True)]
    batch = _batch(answered) | {f"KL_{name}": tensor for name, tensor in _batch(foreign).items()}
    labels = torch.tensor([number % 2 == 0 for number in range(len(answered))])
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model, {**batch, "label": labels}, return_outputs=False)
    source = (
        "trl.trainer.kto_trainer.KTOTrainer._compute_loss, loss type kto, each KL completion that of the row before"
    )
    return {"source": _source(source), "settings": settings, "loss": loss.item()}


def orpo_numbers(folder: Path) -> dict[str, Any]:
    """Return the loss of ORPO, and its odds-ratio term."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    settings = {"weight": 0.2}
    config = ORPOConfig(**_arguments(folder), beta=settings["weight"])
    trainer = ORPOTrainer(model(0.0), config, **_given(SIDES))
    losses, *_ = trainer.odds_ratio_loss(*_mean_log_p(trainer))
    # Both sides have the same width, because the id with which TRL pads the narrower one is not in this vocabulary.
    halves = {name: tensor.chunk(2) for name, tensor in _labelled(_batch([*BETTER, *WORSE])).items()}
    batch = {
        f"{side}_{name}": half[n] for n, side in enumerate(("chosen", "rejected")) for name, half in halves.items()
    }
    with torch.no_grad():
        loss, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    source = (
        "trl.experimental.orpo.orpo_trainer.ORPOTrainer: loss by get_batch_loss_metrics; "
        "odds by get_batch_logps and odds_ratio_loss, its second term alone, -mean(losses)"
    )
    return {"source": _source(source), "settings": settings, "loss": loss.item(), "odds": -losses.mean().item()}


def simpo_numbers(folder: Path) -> dict[str, Any]:
    """Return the loss of SimPO."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    settings = {"beta": 2.5, "gamma": 0.8}
    config = CPOConfig(
        **_arguments(folder), loss_type="simpo", cpo_alpha=0.0, beta=settings["beta"], simpo_gamma=settings["gamma"]
    )
    trainer = CPOTrainer(model(0.0), config, **_given(SIDES))
    losses, *_ = trainer.cpo_loss(*_mean_log_p(trainer))
    source = "trl.experimental.cpo.cpo_trainer.CPOTrainer, get_batch_logps and cpo_loss, loss type simpo"
    return {"source": _source(source), "settings": settings, "loss": losses.mean().item()}


@torch.no_grad()
def _mean_log_p(trainer: Any) -> tuple[Tensor, ...]:
    """Return the mean log-probability per token of the better and of the worse answers, by the trainer's own function."""
    batch = _labelled(_batch([*BETTER, *WORSE]))
    labels = batch.pop("labels")
    return trainer.get_batch_logps(trainer.model(**batch).logits, labels, average_log_prob=True).chunk(2)


def _batch(answered: Answered) -> dict[str, Tensor]:
    """Return prompts with answers as one batch, padded to the right."""
    width = max(len(prompt) + len(answer) for prompt, answer in answered)
    rows: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "completion_mask": []}
    for prompt, answer in answered:
        padding = [0] * (width - len(prompt) - len(answer))
        rows["input_ids"].append([*prompt, *answer, *padding])
        rows["attention_mask"].append([1] * (len(prompt) + len(answer)) + padding)
        rows["completion_mask"].append([0] * len(prompt) + [1] * len(answer) + padding)
    return {name: torch.tensor(values) for name, values in rows.items()}


def _labelled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch in which the mask of the answers is replaced by their labels."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def _arguments(folder: Path) -> dict[str, Any]:
    return {"output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none"}


def _given(rows: Dataset) -> dict[str, Any]:
    return {"train_dataset": rows, "processing_class": byte_tokenizer()}


def _source(functions: str) -> str:
    return f"trl {metadata.version('trl')}: {functions}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
