"""A judge whose answers can be read: SmolLM2-135M learns to say, in the form it is asked in, whether a response makes sense.

As it comes, this model answers no question of stage `diagnose` with a number, so judging in words and by odds cannot be compared on
it. Here it is taught by LoRA on other examples than are judged: a response as it stands gets 7 to 9, one whose words were dealt
anew gets 0 to 2, and every prompt gets 6 to 9. Within these bounds scores are drawn: nothing is to be learnt there. (Whether a
response is that of its own prompt was tried first. From 30 lessons the model learnt nothing of it: 0.37 of the pairs in order.)
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
    from tasks.engine.telemetry import StepMetrics

WHOLE, DEALT, PROMPT = (7, 9), (0, 2), (6, 9)
"""Least and largest score of a response as it stands, of one whose words were dealt anew, and of a prompt."""
RATE, EPOCHS, PACK_TOKENS = 5e-4, 1, 1024


def mixed(examples: Sequence[Example]) -> list[Example]:
    """The examples, every second one with the words of its response dealt anew."""
    return [example if place % 2 == 0 else _dealt(example) for place, example in enumerate(examples)]


def _dealt(example: Example) -> Example:
    words = example.response.split()
    random.Random(example.id).shuffle(words)
    return replace(example, messages=[*example.prompt, Message("assistant", " ".join(words))], tests=None)


def lessons(examples: Sequence[Example], curator: Curator, seed: int) -> Iterator[Example]:
    """Every question about each of `mixed(examples)`, with the answer that is to be learnt."""
    from tasks.stages.diagnose import judge

    for place, example in enumerate(mixed(examples)):
        for name, question in curator.questions.items():
            least, most = (WHOLE if place % 2 == 0 else DEALT) if question.response else PROMPT
            score = random.Random(f"{seed} {example.id} {name}").randint(least, most)
            asked = judge.ask(example, question, curator.answer)
            answer = Message("assistant", f"{curator.lead}{score}")
            yield replace(example, id=f"{example.id} {name}", messages=[asked, answer], tests=None, weights=None)


def taught(base: Path, examples: Sequence[Example], curator: Curator, folder: Path, seed: int = 0) -> Path:
    """The folder of a judge that was taught on these examples; made where it is not there yet."""
    from tasks.core.compute import Compute
    from tasks.core.training import Training
    from tasks.engine import compose, device, encode, store, train
    from tasks.io import checkpoints

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
        made = Path(work) / "judge"
        store.save(outcome.attached, parts, tokenizer, made, standalone=True)
        made.rename(folder)
    return folder


def _report(metrics: "StepMetrics") -> None:
    if metrics.step % 20 == 0 or metrics.step == metrics.steps:
        print(f"judge: step {metrics.step} of {metrics.steps}, loss {metrics.loss:.3f}", flush=True)
