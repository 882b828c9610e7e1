"""A judge whose answers can be parsed: SmolLM2-135M is trained to score, in the required format, whether a response makes sense.

Untrained, this model answers no question of stage `diagnose` with a number, so judging by generation and by odds cannot be compared.
Here it is trained by LoRA on other examples than the judged ones: an intact response gets 7 to 9, a response with shuffled words 0 to
2, and every prompt 6 to 9. Scores are random within these bounds. (Scoring whether a response belongs to its prompt was tried first.
From 30 lessons the model did not learn it: 0.37 of the pairs in order.)
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.records import Example, Message
from tasks.methods.curators import Curator

if TYPE_CHECKING:
    from tasks.engine.training.telemetry import StepMetrics

WHOLE, DEALT, PROMPT = (7, 9), (0, 2), (6, 9)
"""Least and largest score of an intact response, of one with shuffled words, and of a prompt."""
RATE, EPOCHS, PACK_TOKENS = 5e-4, 1, 1024


def mixed(examples: Sequence[Example]) -> list[Example]:
    """Return the examples; in every second one the words of the response are shuffled."""
    return [example if place % 2 == 0 else _shuffled(example) for place, example in enumerate(examples)]


def _shuffled(example: Example) -> Example:
    words = example.response.split()
    random.Random(example.id).shuffle(words)
    return replace(example, messages=[*example.prompt, Message("assistant", " ".join(words))], tests=None)


def lessons(examples: Sequence[Example], curator: Curator, seed: int) -> Iterator[Example]:
    """Yield every question about each of `mixed(examples)`, with the answer to learn."""
    from tasks.stages.diagnose import judging

    for place, example in enumerate(mixed(examples)):
        for name, question in curator.questions.items():
            least, most = (WHOLE if place % 2 == 0 else DEALT) if question.response else PROMPT
            score = random.Random(f"{seed} {example.id} {name}").randint(least, most)
            message = judging.question_message(example, question, curator.answer)
            answer = Message("assistant", f"{curator.lead}{score}")
            yield replace(example, id=f"{example.id} {name}", messages=[message, answer], tests=None, weights=None)


def taught(base: Path, examples: Sequence[Example], curator: Curator, folder: Path, seed: int = 0) -> Path:
    """Return the folder of a judge trained on these examples; train it if it does not exist."""
    from tasks.core.compute import Compute
    from tasks.core.training import Training
    from tasks.engine import device, encode
    from tasks.engine.training import compose, store, train
    from tasks.io.weights import checkpoints

    if folder.is_dir():
        return folder
    compute = Compute(precision="bf16", threads=1)
    device.use(compute)
    model, tokenizer = checkpoints.load(base)
    plan = Training(max_tokens=10**9, epochs=EPOCHS, pack_tokens=PACK_TOKENS, save_every=0, seed=seed)
    sections: dict[str, Any] = {
        "none": {}, "all": {}, "cross_entropy": {}, "adamw": {"learning_rate": RATE},
        "lora": {"rank": 16, "alpha": 32, "targets": "all-linear"},
    }  # fmt: skip
    parts = compose.read(plan, sections)
    rows = [row for row in encode.examples(lessons(examples, curator, seed), tokenizer, PACK_TOKENS) if row]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        outcome = train.train(model.train(), train.TrainData(rows), parts, plan, compute, Path(work), on_step=_report)
        partial = Path(work) / "judge"
        store.save(outcome.attached, parts, tokenizer, partial, standalone=True)
        partial.rename(folder)
    return folder


def _report(metrics: "StepMetrics") -> None:
    if metrics.step % 20 == 0 or metrics.step == metrics.steps:
        print(f"judge: step {metrics.step} of {metrics.steps}, loss {metrics.loss:.3f}", flush=True)
