"""Stage `pretrain`: continue the base model's pretraining on the domain's corpus, and measure forgetting on the general one.

reads   models/base/, data/ingested/{train,valid}_documents.parquet
writes  models/pretrained/ (a full model, ratchet.json, training.json if it trained, expansion.json if it was expanded)
"""

from pathlib import Path

from tasks.core.imports import lasting
from tasks.core.stage import Run
from tasks.io.weights import checkpoints
from tasks.stages.pretrain.config import StageConfig


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Train, and write the full model with its losses on both corpora; or pass the base model through."""
    if config.pretrain.max_tokens == 0:
        checkpoints.pass_through(inputs["base"], outputs["model"])
        return
    with lasting():  # most graphs pass the base through: spare them torch
        from tasks.stages.pretrain import train
    train.train(inputs, outputs["model"], config, run)
