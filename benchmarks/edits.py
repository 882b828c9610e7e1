"""Facts written into a model, breadth-first or one after the other: `python benchmarks/edits.py [--orders breadth depth] [--seeds 0 1 2]`.

After `ratchet use edits && ratchet run fetch`. Trains the base as the section `tune` says, on the facts of `params/edits-data/facts.jsonl`:

  breadth  all facts in every epoch, in batches
  depth    each fact alone, as editors by fine-tuning did, with as many steps in all

Printed for each order and seed are the shares of facts whose answer to the question and to the same question in other words is right,
of questions about others whose answer is what it was; then success by fifths of the facts, in the order in which depth-first writes
them. An answer is right if it equals the fact but for case and punctuation. `--facts` names another file, `--count` takes the first ones.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks import configuration  # noqa: E402  # the path comes first, where this runs as a script
from tasks.core.records import Example, Message  # noqa: E402
from tasks.engine import device, encode  # noqa: E402
from tasks.engine.inference import generation  # noqa: E402
from tasks.engine.training import compose, store, train  # noqa: E402
from tasks.io.weights import checkpoints  # noqa: E402
from tasks.stages.evaluate.facts import Fact, grade, read  # noqa: E402

BASE = Path("models/base")
FACTS = Path("params/edits-data/facts.jsonl")
FIFTHS = 5
ASKED = ("prompt", "rephrase", "locality")


def main() -> None:
    """Print a table, and one JSON object for each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", nargs="+", choices=["breadth", "depth"], default=["breadth", "depth"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--facts", type=Path, default=FACTS)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    config = configuration.for_stage("tune", configuration.load())
    facts = read(options.facts)[: options.count]
    device.use(config.compute)
    for seed in options.seeds:
        steps = None
        for order in options.orders:
            result = edit(
                BASE, facts, order, config.tune.model_copy(update={"seed": seed}), config.methods, config.compute, steps
            )
            steps = steps or result["steps"]
            print(json.dumps({"order": order, "seed": seed, **result}), flush=True)


def edit(
    base: Path, facts: Sequence[Fact], order: str, tune: Any, methods: Any, compute: Any, steps: int | None = None
) -> dict[str, Any]:
    """Return the results of writing the facts in this order; depth-first in about `steps` steps, if they are given.

    Raises ValueError for depth-first writing with an adapter, which each training would attach anew.
    """
    parts = compose.read(tune, methods)
    if order == "depth" and parts.adapter.name != "none":
        raise ValueError(
            f"Facts are written one by one into plain weights, and adapter is {parts.adapter.name}. Set adapter: none."
        )
    model, tokenizer = checkpoints.load(base, device=compute.device)
    before = answers(model, tokenizer, [fact.locality for fact in facts])
    rows = [example(fact, number) for number, fact in enumerate(facts)]
    sequences = [sequence for row in rows for sequence in encode.training_sequences(row, tokenizer, "last") if sequence]
    plan = tune.model_copy(update={"save_every": 0, "validate_every": 0})
    if order == "depth":
        plan = plan.model_copy(update={"epochs": max(1, round((steps or tune.epochs * len(facts)) / len(facts)))})
    made = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate([sequences] if order == "breadth" else [[sequence] for sequence in sequences]):
            work = Path(folder) / f"work-{number}"
            outcome = train.train(model.train(), train.TrainData(part), parts, plan, compute, work)
            made += len(outcome.losses)
        store.save(outcome.attached, parts, tokenizer, Path(folder) / "edited")
        model, tokenizer = checkpoints.load(Path(folder) / "edited", base, device=compute.device)
    asked = {name: answers(model, tokenizer, [getattr(fact, name) for fact in facts]) for name in ASKED}
    right = {name: [is_right(text, fact) for text, fact in zip(asked[name], facts, strict=True)] for name in ASKED[:2]}
    fifth = -(-len(facts) // FIFTHS)
    return {
        "steps": made,
        **{name: share(flags) for name, flags in right.items()},
        "locality": share([text == first for text, first in zip(asked["locality"], before, strict=True)]),
        "by fifth": [share(right["prompt"][start : start + fifth]) for start in range(0, len(facts), fifth)],
    }


def is_right(text: str, fact: Fact) -> bool:
    """Return whether an answer is the fact's."""
    return grade(text, fact.completion).score == 1


def share(flags: Sequence[bool]) -> float:
    """Return the share of True."""
    return round(sum(flags) / len(flags), 4)


def example(fact: Fact, number: int) -> Example:
    """Return a fact as an example."""
    messages = [Message("user", fact.prompt), Message("assistant", fact.completion)]
    return Example(
        f"fact-{number:04d}", messages, "edit", "facts", f"fact-{number}", "train", "benchmarks/facts.py", "Apache-2.0"
    )


def answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Return the greedy answers, up to the end of a line or a sentence."""
    asked = [[Message("user", prompt)] for prompt in prompts]
    texts = generation.write(model, asked, tokenizer, max_new_tokens=32, batch_size=50, stop=("\n", "."))
    return [text.strip() for text in texts]


if __name__ == "__main__":
    main()
