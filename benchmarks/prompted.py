"""Accuracy of MeZO on a prompted task of two classes: `python benchmarks/prompted.py vaderSentiment-3.3.2.tar.gz 0 1 2`.

Needs a workspace whose `fetch` has run, and a source distribution with film reviews and the mean rating of twenty readers (Hutto &
Gilbert 2014, MIT licence): `pip download --no-deps --no-binary :all: vaderSentiment==3.3.2`. The prompt is the paper's: a review, then
"It was", then "great" or "terrible" (Malladi et al. 2023, https://arxiv.org/abs/2305.17333, table 14). Our choices, not the paper's:
1,000 short reviews for training, 300 for validation and 1,000 for the test, half of each class; the loss over the full vocabulary, as
in the engine (the paper's is over the two words); ten reviews per step. Every arm makes the same number of steps:
  zero-shot  the untrained model
  mezo       LoRA, trained by MeZO
  bare       the same without the prompt: a review, then "1" or "0", which have no relation to films
  adamw      LoRA by backpropagation: MeZO is expected to lose to it at equal steps
The metric is accuracy on the test reviews, by the likelier of the two words. Each arm has its own learning rate of `--rates`, the one
of the lowest validation loss within `--search` steps; a rate at an edge is reported. The expectations and their dates are in
docs/claims/mezo.json. Results are kept in .ratchet/prompted, and a second call resumes.
"""

import argparse
import functools
import hashlib
import math
import random
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(".ratchet/prompted")
INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SIZES = {"train": 1_000, "valid": 300, "test": 1_000}
CLEAR = 1.0
"""Reviews nearer to neutral than this, on a scale from -4 to 4, are left out."""
SHORT = 90
"""Characters of the longest review: this is a benchmark for a CPU."""
PACK_TOKENS = 192
"""Tokens of a step, about ten reviews."""
LORA: dict[str, Any] = {"rank": 8, "alpha": 16.0, "targets": ["q_proj", "v_proj"]}
EPS = 1e-2
"""MeZO's perturbation scale; the paper's for LoRA (table 15)."""
STEPS, SEARCH = 500, 150
"""Steps of a training, and of a training of the search for a learning rate."""
CHECKPOINTS = 5
"""Checkpoints of a training, evenly spaced; the checkpoint of the lowest validation loss is tested, as in the paper."""
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
ARMS = {"mezo": "mezo", "bare": "mezo", "adamw": "adamw"}
"""The optimizer of each arm."""


@dataclass(frozen=True)
class Wording:
    """The prompt of a review, and the words of both classes."""

    after: str
    words: tuple[str, str]
    """The words for a bad and a good review, a token each."""

    def tokens(self, text: str, tokenizer: Any) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompted review, and of the two words."""
        ids = tokenizer([text + self.after, *self.words], add_special_tokens=False)["input_ids"]
        return ids[0], [word for (word,) in ids[1:]]


PROMPTED, BARE = Wording(" It was", (" terrible", " great")), Wording("", ("0", "1"))
Review = tuple[str, bool]
Data = dict[str, list[Review]]


def main() -> None:
    """Choose each arm's rate, train it with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("archive", type=Path)
    parser.add_argument("seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--search", type=int, default=SEARCH, help="steps of a training that a rate is chosen by")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the model; adapters are fp32")
    options = parser.parse_args()
    from side_by_side import of_seeds

    from flows.experiments import results_table
    from tasks.core.compute import Compute

    compute = Compute(precision=options.precision, threads=1)
    data = split(list(reviews(options.archive)))
    given = functools.partial(trial, data, precision=options.precision)
    results = {"zero-shot": [given("zero-shot", 0.0, 0, 0)] * len(options.seeds)}
    for arm in options.arms:
        tried = functools.partial(given, arm, seed=0, steps=options.search, final=False)
        best = best_rate(arm, options.rates, tried)
        tuned = functools.partial(given, arm, best, steps=options.steps)
        results[arm] = list(of_seeds(tuned, options.seeds, compute))
        show(arm, results[arm], results)
    rows = [
        {"composition": arm, "seed": seed, "accuracy": mean(row["hits"]), "valid": row["valid"]}
        for arm, by_seed in results.items()
        for seed, row in zip(options.seeds, by_seed, strict=True)
    ]
    results_table.save_figures("prompted" if options.steps == STEPS else f"prompted-{options.steps}", rows)


def best_rate(arm: str, rates: Sequence[float], tried: Callable[[float], dict[str, Any]]) -> float:
    """Return the rate of the lowest validation loss; a single rate without a search."""
    if len(rates) == 1:
        return rates[0]
    best = min(rates, key=lambda rate: tried(rate)["valid"])
    edge = ", an edge" if best in (min(rates), max(rates)) else ""
    print(f"{arm}: {best:g} of {', '.join(f'{rate:g}' for rate in rates)}{edge}", flush=True)
    return best


def reviews(archive: Path) -> Iterator[Review]:
    """Yield the reviews of both classes, with True for a good one."""
    with tarfile.open(archive) as outer:
        name = next((name for name in outer.getnames() if name.endswith(INNER)), None)
        if name is None:
            sys.exit(f"{archive} has no {INNER}: it is not the source distribution of vaderSentiment 3.3.2.")
        inner = outer.extractfile(name)
        assert inner
        with tarfile.open(fileobj=BytesIO(inner.read())) as folder:
            file = folder.extractfile(REVIEWS)
            assert file
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    for line in lines:
        _, verdict, text = line.split("\t", 2)
        if abs(float(verdict)) >= CLEAR and len(text) <= SHORT:
            yield text.strip(), float(verdict) > 0


def split(labelled: Sequence[Review]) -> Data:
    """Split the reviews by text, half of each class, the same on every machine."""
    order = random.Random(0)
    sides = {good: sorted({text for text, side in labelled if side is good}) for good in (False, True)}
    for side in sides.values():
        order.shuffle(side)
    splits, start = {}, 0
    for name, size in SIZES.items():
        end = start + size // 2
        splits[name] = [(text, good) for good, side in sides.items() for text in side[start:end]]
        start = end
    return splits


def trial(
    data: Data, arm: str, rate: float, seed: int, steps: int, *, precision: str, final: bool = True
) -> dict[str, Any]:
    """Return the result of a training, from its file or from running it.

    `course`: validation loss at each checkpoint; `valid`: the lowest of them. A final training also has `hits` at that checkpoint,
    0 or 1 for each test review.
    """
    import kept

    wording = BARE if arm == "bare" else PROMPTED
    basis = repr((data, wording, PACK_TOKENS, LORA, EPS, CHECKPOINTS, precision))
    digest = hashlib.sha256(basis.encode()).hexdigest()[:8]
    return kept.result(
        KEPT / f"{digest}-{arm}-{rate:g}-{seed}-{steps}{'-final' if final else ''}.json",
        lambda: measured(data, wording, ARMS.get(arm, "adamw"), rate, seed, steps, precision, final),
        lambda row: f"validation {row['valid']:.4f}" + (f", accuracy {mean(row['hits']):.3f}" if final else ""),
    )


def measured(
    data: Data, wording: Wording, optimizer: str, rate: float, seed: int, steps: int, precision: str, final: bool
) -> dict[str, Any]:
    """Train and return the result of the best checkpoint; without steps, of the untrained model."""
    from tasks.core.compute import Compute
    from tasks.core.training import Training
    from tasks.engine import device, packing
    from tasks.engine.training import compose, train
    from tasks.io.weights import checkpoints

    compute = Compute(precision=precision, threads=1)
    device.use(compute)
    model, tokenizer = checkpoints.load(Path("models/base"), dtype=device.dtype(compute))
    judge = Judge(data, wording, tokenizer, final)
    if not steps:
        judge(model)
        return judge.result()
    plan = Training(
        optimizer=optimizer, epochs=1_000, pack_tokens=PACK_TOKENS, warmup=0.0, schedule="constant_with_warmup",
        save_every=steps // CHECKPOINTS, seed=seed,
    )  # fmt: skip
    method = {"learning_rate": rate} | ({"eps": EPS} if optimizer == "mezo" else {})
    sections = {"none": {}, "all": {}, "cross_entropy": {}, "lora": LORA, optimizer: method}
    sequences = [sequence(review, wording, tokenizer) for review in data["train"]]
    packs = packing.schedule(sequences, PACK_TOKENS, steps * PACK_TOKENS, plan.epochs, seed)[:steps]
    plan = plan.model_copy(update={"max_tokens": sum(map(len, packs))})
    parts = compose.read(plan, sections)
    with tempfile.TemporaryDirectory() as work:
        data = train.TrainData(sequences)
        trained = train.train(model.train(), data, parts, plan, compute, Path(work), measure=judge)
    assert len(trained.losses) == steps, (len(trained.losses), steps)
    return judge.result()


class Judge:
    """Measures each checkpoint: its validation loss and, for a final training at a new minimum, hits on the test reviews."""

    def __init__(self, data: Data, wording: Wording, tokenizer: Any, final: bool) -> None:
        self._data, self._wording, self._tokenizer, self._final = data, wording, tokenizer, final
        self._course: list[float] = []
        self._hits: list[float] = []

    def __call__(self, attached: Any) -> dict[str, float]:
        from tasks.core.weights.surgery import evaluating, plain
        from tasks.engine.forward import use_packed_attention

        model: Any = plain(attached)
        with evaluating(model):
            valid = loss(self._judged(model, "valid"), self._data["valid"])
            if math.isnan(valid):
                valid = math.inf  # the training diverged; do not choose this rate or checkpoint
            if self._final and (not self._course or valid < min(self._course)):
                right = self._judged(model, "test").argmax(axis=1) == [good for _, good in self._data["test"]]
                self._hits = right.astype(float).tolist()
        use_packed_attention(model)  # reading prefix trees has set another kind of attention
        self._course.append(valid)
        return {"valid": valid}

    def _judged(self, model: Any, part: str) -> Any:
        return judged(model, self._tokenizer, self._data[part], self._wording)

    def result(self) -> dict[str, Any]:
        """Return the lowest validation loss, those of all checkpoints, and for a final training 0 or 1 for each test review."""
        record = {"valid": min(self._course), "course": self._course}
        return record | ({"hits": self._hits} if self._final else {})


def sequence(review: Review, wording: Wording, tokenizer: Any) -> Any:
    """Encode a prompted review and the word of its class, which is the only trained token."""
    from tasks.core.sequences import Encoded

    prompt, words = wording.tokens(review[0], tokenizer)
    return Encoded(review[0], [*prompt, words[review[1]]], [0.0] * len(prompt) + [1.0])


def judged(model: Any, tokenizer: Any, rows: Sequence[Review], wording: Wording) -> Any:
    """Return log-probabilities of the two words, normalised over both, (N, 2): bad, good."""
    from scipy.special import log_softmax

    from tasks.engine.inference import readout

    encoded = [wording.tokens(text, tokenizer) for text, _ in rows]
    trees = [readout.Tree(ids[:-1], [readout.Branch(len(ids) - 1, ids[-1:])]) for ids, _ in encoded]
    logits = [row[0] for row in readout.log_odds(model, trees, encoded[0][1])]
    return log_softmax(logits, axis=1)


def loss(judgements: Any, rows: Sequence[Review]) -> float:
    """Return the loss of the right word in nats, normalised over the two words."""
    return -mean([judgement[good] for judgement, (_, good) in zip(judgements.tolist(), rows, strict=True)])


def show(arm: str, rows: list[dict[str, Any]], results: dict[str, list[dict[str, Any]]]) -> None:
    """Print an arm's accuracy, and its differences to the earlier arms over seeds."""
    from tasks.core import statistics

    print(f"{arm}: accuracy", *(f"{mean(row['hits']):.3f}" for row in rows), flush=True)
    for other, other_rows in results.items():
        if other != arm and len(rows) > 1:
            apart = [
                mean(row["hits"]) - mean(other_row["hits"]) for row, other_row in zip(rows, other_rows, strict=True)
            ]
            estimate = statistics.over_seeds(apart)
            print(
                f"  less {other}: {estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}] over seeds",
                flush=True,
            )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from side_by_side import run_main

    run_main(__file__)
