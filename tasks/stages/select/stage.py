"""Stage `select`: choose the best round, by its loss on the validation split alone.

reads   training.json of models/tuned/<round>/ where it trained
writes  data/selection.json: round, why, validation (loss by round, in nats per token)
"""

import json
import math
from pathlib import Path
from typing import Any

from tasks.core.stage import Run
from tasks.stages.select import best_round
from tasks.stages.select.config import StageConfig


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Choose a round, and write it with the losses of all rounds."""
    losses = {name: best_round.validation_loss(_training_record(inputs["tuned"] / name)) for name in config.rounds}
    choice = best_round.choose(losses)
    # JSON has no NaN: a loss that is not finite becomes null.
    validation = {name: loss if loss is not None and math.isfinite(loss) else None for name, loss in losses.items()}
    text = {"round": choice.round, "why": choice.why, "validation": validation}
    outputs["selection"].write_text(json.dumps(text, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    run.note(selected=choice.round)
    run.say(f"select: {choice.round}, {choice.why}")


def _training_record(model: Path) -> Any:
    """Return a round's training.json; None if the pretrained model was passed through."""
    if not model.is_dir():
        raise FileNotFoundError(f"{model} is missing. `dvc repro tune@{model.name}` makes it.")
    path = model / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
