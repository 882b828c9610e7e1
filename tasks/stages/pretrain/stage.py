"""Stage `pretrain`: continue the base model's pretraining on the domain's corpus, and measure forgetting on the general one.

reads   models/base/, data/ingested/{train,valid}_documents.parquet
writes  models/pretrained/ (a full model, ratchet.json, training.json if it trained, expansion.json if it was expanded; with a bank,
        the unchanged base, and bank/ with an adapter for each domain)
"""

from functools import partial
from pathlib import Path

from tasks.core.imports import lasting
from tasks.core.stage import Run
from tasks.io.weights import checkpoints
from tasks.stages.pretrain.config import StageConfig


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Train, and write the full model with its losses on both corpora, or a bank of adapters; or pass the base model through."""
    if config.pretrain.max_tokens == 0:
        checkpoints.pass_through(inputs["base"], outputs["model"])
        return
    with lasting():  # most graphs pass the base through and need no torch
        from tasks.engine.training import compose
        from tasks.stages.pretrain import bank, train
    parts = compose.read(config.pretrain, config.methods)
    if config.pretrain.bank == "none":
        train.train(inputs, outputs["model"], run, config=config, parts=parts)
    else:
        member = partial(train.train, config=config, parts=parts)
        bank.train(inputs, outputs["model"], config, parts, run, member)
