"""What MeZO makes of a prompted task of two classes: `python benchmarks/prompted.py vaderSentiment-3.3.2.tar.gz 0 1 2`.

Needs a workspace whose `fetch` has run, and a source distribution that has film reviews with the mean verdict of twenty readers
(Hutto & Gilbert 2014, MIT licence): `pip download --no-deps --no-binary :all: vaderSentiment==3.3.2`. What is asked is the paper's:
a review, then "It was", then "great" or "terrible" (Malladi et al. 2023, https://arxiv.org/abs/2305.17333, table 14); 1,000 short reviews
train, 300 validate and 1,000 test, half of each class. Every arm reads them in the same order for the same number of steps:
  zero-shot  the model as it is
  mezo       LoRA, moved by MeZO
  bare       the same without the prompt: a review, then "1" or "0", which say nothing of films
  adamw      LoRA by backpropagation: MeZO is expected to lose to it at equal steps
Fixed beforehand: the metric is accuracy on the test reviews, the likelier of the two words; each arm has its own learning rate of four, the one of the
lowest validation loss after 150 steps; MeZO has to gain ten points on zero-shot and on `bare`, and its validation loss to fall in
each window of 500 steps. Results are kept in .ratchet/prompted, and a second call goes on where the first one ended.
"""

import argparse
import json
import random
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
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
"""Reviews nearer to neutral than this, on a scale from -4 to 4, belong to no class."""
SHORT = 90
"""Characters of the longest review that is asked about: this is a benchmark for a CPU."""
PACK_TOKENS = 192
"""Tokens of a step, some ten reviews."""
WINDOW, SEARCH = 500, 150
"""Steps after which validation is measured, and steps of the trainings that a rate is chosen by."""

RATES = (3e-5, 1e-4, 3e-4, 1e-3)
ARMS: dict[str, tuple[str, Sequence[float]]] = {
    "mezo": ("mezo", RATES),
    "bare": ("mezo", RATES),
    "adamw": ("adamw", (3e-5, 1e-4, 3e-4, 1e-3)),
}


@dataclass(frozen=True)
class Wording:
    """How a review is put to the model."""

    after: str
    words: tuple[str, str]
    """What a bad one is called, and a good one: a token each."""

    def tokens(self, text: str, tokenizer: Any) -> tuple[list[int], list[int]]:
        """A review as it is put, and the two words."""
        ids = tokenizer([text + self.after, *self.words], add_special_tokens=False)["input_ids"]
        return ids[0], [word for (word,) in ids[1:]]


PROMPTED, BARE = Wording(" It was", (" terrible", " great")), Wording("", ("0", "1"))
Review = tuple[str, bool]


def main() -> None:
    """Choose each arm's rate, train it with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("archive", type=Path)
    parser.add_argument("seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=WINDOW)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from flows import standings

    data = split(list(reviews(options.archive)))
    results = {"zero-shot": [trial(data, "zero-shot", 0.0, 0, 0)] * len(options.seeds)}
    for arm in options.arms:
        rates = ARMS[arm][1]
        best = min(rates, key=lambda rate: trial(data, arm, rate, 0, SEARCH)["course"][-1][1])
        print(f"{arm}: {best:g} of {', '.join(f'{rate:g}' for rate in rates)}", flush=True)
        results[arm] = [trial(data, arm, best, seed, options.steps) for seed in options.seeds]
        told(arm, results[arm], results)
    rows = [
        {"composition": arm, "seed": seed, "accuracy": mean(row["hits"]), "course": row["course"]}
        for arm, found in results.items()
        for seed, row in zip(options.seeds, found, strict=True)
    ]
    standings.keep("prompted", rows)


def reviews(archive: Path) -> Iterator[Review]:
    """The reviews that readers found good or bad, and which of the two."""
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


def split(found: Sequence[Review]) -> dict[str, list[Review]]:
    """Apart by text, half of each class, the same on every machine."""
    order = random.Random(0)
    sides = [sorted({text for text, good in found if good is side}) for side in (False, True)]
    for side in sides:
        order.shuffle(side)
    made, start = {}, 0
    for name, size in SIZES.items():
        rows = [(text, good) for good, side in enumerate(sides) for text in side[start : start + size // 2]]
        made[name] = [(text, bool(good)) for text, good in rows]
        start += size // 2
    return made


def trial(data: dict[str, list[Review]], arm: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
    """What came of a training, from the file that an earlier call left or from running it."""
    file = KEPT / f"{arm}-{rate:g}-{seed}-{steps}.json"
    if not file.is_file():
        result = run(data, arm, rate, seed, steps)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result), encoding="utf-8")
        accuracy = f"accuracy {mean(result['hits']):.3f}, " if "hits" in result else ""
        print(f"  {file.stem}: {accuracy}validation", *(f"{loss:.4f}" for _, loss in result["course"]), flush=True)
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def run(data: dict[str, list[Review]], arm: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
    """Train an arm and put the test to it. Gives `course`, [step, validation loss], and in the end `hits`, 0 or 1
    for each test review."""
    from tasks.core.compute import Compute
    from tasks.core.training import Training
    from tasks.engine import compose, job, packing, train

    compute, wording = Compute(precision="fp32", threads=1), BARE if arm == "bare" else PROMPTED
    optimizer, _ = ARMS.get(arm, ("adamw", ()))
    plan = Training(
        optimizer=optimizer, epochs=1_000, pack_tokens=PACK_TOKENS, warmup=0.0, schedule="constant_with_warmup",
        save_every=WINDOW, seed=seed,
    )  # fmt: skip
    sections = {
        "none": {}, "all": {}, "cross_entropy": {}, "lora": {"rank": 8, "alpha": 16.0, "targets": ["q_proj", "v_proj"]},
        "adamw": {"learning_rate": rate or 1e-4}, "mezo": {"learning_rate": rate or 1e-4, "eps": 1e-2},
    }  # fmt: skip
    model, tokenizer = job.load(Path("models/base"), plan, sections, compute)

    def judge(made: Any, name: str) -> Any:
        return judged(made.eval(), tokenizer, data[name], wording)

    def measure(made: Any) -> dict[str, float]:
        return {"valid": loss(judge(made, "valid"), data["valid"])}

    course = [] if steps else [(0, measure(model)["valid"])]
    if steps:
        sequences = [sequence(review, wording, tokenizer) for review in data["train"]]
        packs = packing.schedule(sequences, PACK_TOKENS, 10**9, -(-steps * PACK_TOKENS // 10_000), seed)[:steps]
        plan = plan.model_copy(update={"max_tokens": sum(map(len, packs))})
        parts = compose.read(plan, sections)
        with tempfile.TemporaryDirectory() as work:
            made = train.train(
                model.train(), sequences, parts, plan, compute, Path(work), lambda *_: None, measure=measure
            )
        assert len(made.losses) == steps, (len(made.losses), steps)
        course += [(min(WINDOW * n, steps), value) for n, (_, value) in enumerate(made.measured["valid"], 1)]
        model = made.model
    if steps == SEARCH:
        return {"course": course}
    right = judge(model, "test").argmax(axis=1) == [good for _, good in data["test"]]
    return {"course": course, "hits": right.astype(float).tolist()}


def sequence(review: Review, wording: Wording, tokenizer: Any) -> Any:
    """A review as it is put, and the word that belongs to it, which alone trains."""
    from tasks.engine.encode import Encoded

    asked, words = wording.tokens(review[0], tokenizer)
    return Encoded(review[0], [*asked, words[review[1]]], [0.0] * len(asked) + [1.0])


def judged(model: Any, tokenizer: Any, rows: Sequence[Review], wording: Wording) -> Any:
    """Log-probabilities of the two words, one of them given, (N, 2): bad, good."""
    from scipy.special import log_softmax

    from tasks.engine import readout
    from tasks.engine.forward import use_packed_attention

    asked = [wording.tokens(text, tokenizer) for text, _ in rows]
    trees = [readout.Tree(ids[:-1], [readout.Branch(len(ids) - 1, ids[-1:])]) for ids, _ in asked]
    logits = [row[0] for row in readout.log_odds(model, trees, asked[0][1])]
    use_packed_attention(model)  # as training wants it
    return log_softmax(logits, axis=1)


def loss(judgements: Any, rows: Sequence[Review]) -> float:
    """Nats of the right word, given that it is one of the two."""
    return -mean([judgement[good] for judgement, (_, good) in zip(judgements.tolist(), rows, strict=True)])


def told(arm: str, rows: list[dict[str, Any]], results: dict[str, list[dict[str, Any]]]) -> None:
    """An arm's accuracy and its differences to the others so far, over seeds."""
    from tasks.core import statistics

    print(f"{arm}: accuracy", *(f"{mean(row['hits']):.3f}" for row in rows), flush=True)
    for other, theirs in results.items():
        if other != arm and len(rows) > 1:
            apart = [mean(row["hits"]) - mean(one["hits"]) for row, one in zip(rows, theirs, strict=True)]
            found = statistics.over_seeds(apart)
            print(f"  less {other}: {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}] over seeds", flush=True)


if __name__ == "__main__":
    main()
