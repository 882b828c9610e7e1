"""Stage `select`: the round that is kept, by its loss on the validation split and by nothing else.

reads   training.json of models/tuned/<round>/ where it trained
writes  data/selection.json: round, why, validation (loss by round, in nats per token)
"""

import json
import math
from pathlib import Path
from typing import Any

from tasks.core.stage import Run
from tasks.stages.select import choose
from tasks.stages.select.params import Settings


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Choose, and write what was chosen from."""
    losses = {name: choose.validation_loss(_course(inputs["tuned"] / name)) for name in settings.rounds}
    choice = choose.best(losses)
    # JSON knows no NaN: a loss that is no number is none.
    validation = {name: loss if loss is not None and math.isfinite(loss) else None for name, loss in losses.items()}
    text = {"round": choice.round, "why": choice.why, "validation": validation}
    outputs["selection"].write_text(json.dumps(text, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    run.note(selected=choice.round)
    run.say(f"select: {choice.round}, {choice.why}")


def _course(model: Path) -> Any:
    """What its training wrote of itself; None where the pretrained model passed through."""
    if not model.is_dir():
        raise FileNotFoundError(f"{model} is missing. `dvc repro tune@{model.name}` makes it.")
    course = model / "training.json"
    return json.loads(course.read_text(encoding="utf-8")) if course.is_file() else None
