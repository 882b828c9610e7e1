"""Stage `pretrain`: continue the base's pretraining on the domain's corpus, and watch what it forgets.

reads   models/base/, data/ingested/{train,valid}_documents.parquet
writes  models/pretrained/ (a whole model, ratchet.json, training.json where it trained, expansion.json where it grew)
"""

from pathlib import Path

from tasks.core.imports import lasting
from tasks.core.stage import Run
from tasks.io import checkpoints
from tasks.stages.pretrain.params import Settings


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Train, and write the whole model with the course of its loss on both corpora; or pass the base through."""
    if settings.pretrain.max_tokens == 0:
        checkpoints.pass_through(inputs["base"], outputs["model"])
        return
    with lasting():  # most graphs pass the base through: spare them torch
        from tasks.stages.pretrain import adapt
    adapt.adapt(inputs, outputs["model"], settings, run)
