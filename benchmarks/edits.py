"""Facts written into a model, breadth-first or one after the other: `python benchmarks/edits.py [--count 10 50] [--seeds 0 1 2]`.

After `ratchet use edits && ratchet run fetch`. Trains the base as the section `tune` says, on the facts of `params/edits-data/facts.jsonl`:

  breadth  all facts in every epoch, in batches
  depth    each fact alone, as editors by fine-tuning did, in as many steps in all as breadth-first made
  passes   each fact alone, and each seen as often as breadth-first

A seed draws the order of the facts too.
The learning rate of each order is the one of `--rates` with the best success after training with a seed of its own (`SEARCH`), and the
search goes on beyond the smallest or largest as long as that is the best. A single rate is taken as it is.
Printed for each order and seed are the shares of facts whose answer to the question and to the same question in other words is right,
of questions about others whose answer is what it was; the increase of the loss on general text, which is the language reference that
`help()` shows; then success by fifths of the facts, in the order in which depth-first writes them. An answer is right if it equals the fact but for case and punctuation. `--facts` names another file, `--count` takes the first ones;
of several counts each is written into the base anew, which gives success over the number of edits.
Results are kept in .ratchet/edits, and a second call resumes. `python docs/ledger.py edits` takes the figures of one count to the ledger.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import kept as files  # noqa: E402  # the path comes first, where this runs as a script
from side_by_side import of_seeds, run_main  # noqa: E402

from flows.experiments import results_table, search  # noqa: E402
from tasks import configuration  # noqa: E402
from tasks.core.records import Document, Example, Message  # noqa: E402
from tasks.engine import device, encode  # noqa: E402
from tasks.engine.inference import generation, scoring  # noqa: E402
from tasks.engine.training import compose, store, train  # noqa: E402
from tasks.io.facts_file import Fact, read  # noqa: E402
from tasks.io.sources import descriptions  # noqa: E402
from tasks.io.weights import checkpoints  # noqa: E402
from tasks.stages.evaluate.facts import grade  # noqa: E402

BASE = Path("models/base")
FACTS = Path("params/edits-data/facts.jsonl")
KEPT = Path(".ratchet/edits")
FIFTHS = 5
CHAPTER_CHARS = 600
"""Of each chapter of general text."""
ASKED = ("prompt", "rephrase")
ORDERS = ("breadth", "depth", "passes")
SEARCH = 1_000
"""The seed that learning rates are chosen with."""


def main() -> None:
    """Choose the learning rate of each order, print one JSON object for each training, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--orders", nargs="*", choices=ORDERS[1:], default=ORDERS[1:], help="beside breadth; none without a name"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rates", nargs="+", type=float, default=[2e-4, 5e-4, 1e-3, 2e-3])
    parser.add_argument("--facts", type=Path, default=FACTS)
    parser.add_argument("--count", nargs="+", type=int)
    options = parser.parse_args()
    config = configuration.for_stage("tune", configuration.load())
    facts = read(options.facts)
    device.use(config.compute)
    counts = options.count or [len(facts)]
    if wrong := [count for count in counts if not 0 < count <= len(facts)]:
        parser.error(f"--count is {wrong[0]}, and {options.facts} has the facts 1 to {len(facts)}.")
    rows = []
    for count in counts:
        rows += measured(
            Trials(BASE, facts[:count], config), [ORDERS[0], *options.orders], options.rates, options.seeds
        )
    name = "edits" if len(counts) == 1 else "edits-by-number"
    print(f"Figures: {results_table.save_figures(name, rows)}")


def measured(
    trials: "Trials", orders: Sequence[str], rates: Sequence[float], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Choose the learning rate of each order, and return and print the results of each with each seed. The first order is breadth-first."""
    steps, best, rows = 0, {}, []
    for order in orders:
        best[order] = rates[0]
        if len(rates) > 1:
            best[order], searched = chosen(trials, order, rates, steps)
            steps = steps or searched["steps"]
    for some in of_seeds(partial(trials.of_seed, best, steps), seeds, trials.config.compute):
        for row in some:
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def chosen(trials: "Trials", order: str, rates: Sequence[float], steps: int) -> tuple[float, dict[str, Any]]:
    """Return the learning rate of the best success, of `rates` and beyond them as far as `ratchet compare` goes, and its result."""
    tried = {rate: trials.result(order, SEARCH, rate, steps) for rate in rates}
    for _ in range(search.BEYOND):
        best = max(tried, key=lambda rate: tried[rate]["prompt"])
        if min(tried) < best < max(tried):
            break
        further = float(f"{best * search.BEYOND if best == max(tried) else best / search.BEYOND:.3g}")
        tried[further] = trials.result(order, SEARCH, further, steps)
    return max(tried.items(), key=lambda item: item[1]["prompt"])


class Trials:
    """The trainings on one list of facts, each stored in a file below a folder named by a hash of the settings."""

    def __init__(self, base: Path, facts: Sequence[Fact], config: Any) -> None:
        """`config` has what stage `tune` declares."""
        self.base, self.facts, self.config = base, facts, config
        basis = [config.model_dump(mode="json"), [vars(fact) for fact in facts], checkpoints.weights_digest(base)]
        self.folder = KEPT / hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:8]

    def of_seed(self, rates: Mapping[str, float], steps: int, seed: int) -> list[dict[str, Any]]:
        """Return the results of all orders with a seed, each at its learning rate. Without `steps`, the first order determines their number."""
        rows = []
        for order, rate in rates.items():
            row = self.result(order, seed, rate, steps)
            steps = steps or row["steps"]
            rows.append({"composition": order, "facts": len(self.facts), "seed": seed, "learning_rate": rate} | row)
        return rows

    def result(self, order: str, seed: int, rate: float, steps: int) -> dict[str, Any]:
        """Return the result of `edit`, from its file or from running it."""
        optimizer = self.config.tune.optimizer
        methods = {**self.config.methods, optimizer: {**self.config.methods[optimizer], "learning_rate": rate}}
        tune = self.config.tune.model_copy(update={"seed": seed})
        return files.result(
            self.folder / f"{order}-{seed}-{rate:g}.json",
            lambda: edit(self.base, self.facts, order, tune, methods, self.config.compute, steps),
            lambda row: f"{order}, seed {seed}, rate {rate:g}: {row['prompt']:.2f}",
        )


def edit(
    base: Path, facts: Sequence[Fact], order: str, tune: Any, methods: Any, compute: Any, steps: int = 0
) -> dict[str, Any]:
    """Return the results of writing the facts in this order; order `depth` makes `steps` steps in all, the first facts one more than the others.

    Raises ValueError for one fact after the other with an adapter, which each training would attach anew.
    """
    parts = compose.read(tune, methods)
    if order != "breadth" and parts.adapter.name != "none":
        raise ValueError(
            f"Facts are written one by one into plain weights, and adapter is {parts.adapter.name}. Set adapter: none."
        )
    facts = random.Random(tune.seed).sample(facts, len(facts))
    others = tuple(sorted(fact.locality for fact in facts))
    before, general = untouched(base, others, compute.device)
    model, tokenizer = checkpoints.load(base, device=compute.device)
    rows = [example(fact, number) for number, fact in enumerate(facts)]
    sequences = [sequence for row in rows for sequence in encode.training_sequences(row, tokenizer, "last") if sequence]
    plan = tune.model_copy(update={"save_every": 0, "validate_every": 0})
    made = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate([sequences] if order == "breadth" else [[sequence] for sequence in sequences]):
            epochs = steps // len(facts) + (number < steps % len(facts)) if order == "depth" else plan.epochs
            if not epochs:
                break
            work, one = Path(folder) / f"work-{number}", plan.model_copy(update={"epochs": epochs})
            outcome = train.train(model.train(), train.TrainData(part), parts, one, compute, work)
            made += sum(loss >= plan.floor for *_, loss in outcome.losses)
        store.save(outcome.attached, parts, tokenizer, Path(folder) / "edited")
        model, tokenizer = checkpoints.load(Path(folder) / "edited", base, device=compute.device)
    texts = {name: answers(model, tokenizer, [getattr(fact, name) for fact in facts]) for name in ASKED}
    right = {name: [is_right(text, fact) for text, fact in zip(texts[name], facts, strict=True)] for name in ASKED}
    after = answers(model, tokenizer, others)
    fifth = -(-len(facts) // FIFTHS)
    return {
        "steps": made,
        **{name: share(flags) for name, flags in right.items()},
        "locality": share([text == first for text, first in zip(after, before, strict=True)]),
        "general": round(general_loss(model, tokenizer) - general, 4),
        "by fifth": [share(right["prompt"][start : start + fifth]) for start in range(0, len(facts), fifth)],
    }


@cache
def untouched(base: Path, questions: tuple[str, ...], device: str) -> tuple[list[str], float]:
    """Return the base's answers to these questions and its loss on general text, which are the same for all trainings."""
    model, tokenizer = checkpoints.load(base, device=device)
    return answers(model, tokenizer, questions), general_loss(model, tokenizer)


def general_loss(model: Any, tokenizer: Any) -> float:
    """Return the loss on the beginning of each chapter of the language reference, in nats per token."""
    chapters = [
        Document(text.name, text.text[:CHAPTER_CHARS], "general", text.name, "test", text.name, text.license)
        for text in descriptions.topics()
    ]
    return scoring.mean(scoring.losses(model, list(encode.documents(chapters, tokenizer, CHAPTER_CHARS))))


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
    run_main(__file__)
