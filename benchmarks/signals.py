"""CPU time of the signals of stage `diagnose`: `python benchmarks/signals.py losses|embeddings|neighbours|judging [--rounds 3]`.

Needs a workspace whose `fetch` and `ingest` have run. Sides take turns, each in a process of its own on one thread, and are compared
by ratios of CPU time, paired by round.

losses      responses of examples under the base model in bf16, compared with lm-evaluation-harness (HFLM, bf16, batch 1, its fastest
            on a CPU) on the same tokens: `pip install "ratchet-llm[lm-eval]"`; and the differences of the losses. Each side scores
            all of them once before it is timed, so that memory is already allocated
embeddings  prompts by the embedder in bf16 and fp32, compared with sentence-transformers' default; and the least cosine
neighbours  the exact nearest of `--rows` random vectors of width 384, and the increase of peak memory
judging     six judgements per example, from one forward pass and from generated answers. SmolLM2-135M's answers cannot be parsed:
            `--taught` trains it to answer first (judges.py), and shuffles the words of every second response. An answer ends after
            `--words` tokens: by default as in stage `diagnose`, after the score; the paper's after 1024, since its judge explains
            its score
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE, EMBEDDER, EXAMPLES = Path("models/base"), Path("models/embedder"), Path("data/rounds/r0/examples.parquet")
LESSONS = 60
JUDGE = Path(f".ratchet/signals/judge-of-dealt-words-{LESSONS}")
"""Folder of the trained judge; it is trained on `LESSONS` examples after the judged ones."""
Result = dict[str, Any]


def main() -> None:
    """Run all sides of a measurement in turn and print the results."""
    sys.path.insert(0, str(ROOT))
    from tasks.stages.diagnose.config import Judging

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("what", choices=SIDES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=Judging().max_new_tokens)
    parser.add_argument("--taught", action="store_true", help="let a model judge that was taught to answer")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sides = SIDES[options.what]
    if options.side:
        print(json.dumps(sides[options.side](options)))
        return
    results: dict[str, list[Result]] = {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            results[side].append(run(side))
            shown = {name: value for name, value in results[side][-1].items() if not isinstance(value, list)}
            print(f"round {number + 1}, {side}: {shown}", flush=True)
    report(results)


def run(side: str) -> Result:
    """Run one side in a process of its own."""
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def report(results: dict[str, list[Result]]) -> None:
    """Print each side's CPU time as a multiple of the first side's, with an interval over rounds, and their difference."""
    from tasks.core import statistics

    first, *others = results
    for other in others:
        ratios = [b["cpu_s"] / a["cpu_s"] for a, b in zip(results[first], results[other], strict=True)]
        ratio = statistics.over_seeds(ratios)
        print(f"\n{other} takes {ratio.value:.2f} × [{ratio.low:.2f}, {ratio.high:.2f}] of {first}'s CPU time")
        print(apart(results[first][0], results[other][0]))


def apart(first: Result, second: Result) -> str:
    """Format the difference between the values of two sides."""
    from scipy.stats import spearmanr

    pairs = list(zip(first["values"], second["values"], strict=True))
    if isinstance(first["values"][0], list):
        return f"least cosine: {min(cosine(a, b) for a, b in pairs):.5f}"
    known = [(a, b) for a, b in pairs if None not in (a, b)]
    if len(known) < 3:
        return f"no correlation: {len(known)} of {len(pairs)} have a value on both sides"
    gaps = [abs(a - b) for a, b in known]
    order = spearmanr(known).statistic
    return (
        f"apart by at most {max(gaps):.4f}, {sum(gaps) / len(gaps):.4f} on average; "
        f"Spearman's correlation {order:.3f} over {len(known)} of {len(pairs)}"
    )


def cosine(first: list[float], second: list[float]) -> float:
    """Return the cosine of two vectors."""
    import numpy as np

    return float(np.dot(first, second) / np.linalg.norm(first) / np.linalg.norm(second))


def rows(count: int) -> list[Any]:
    """Return the first `count` examples."""
    import torch

    from tasks.core.records import Example
    from tasks.io import tables
    from tasks.io.system.process import quiet

    quiet()
    torch.set_num_threads(1)
    return tables.read(EXAMPLES, Example)[:count]


def sequences(options: argparse.Namespace) -> list[Any]:
    """Return the examples encoded."""
    from tasks.engine import encode
    from tasks.io.weights import checkpoints

    encoded = encode.examples(rows(options.examples), checkpoints.load_tokenizer(BASE), 1024)
    return [sequence for sequence in encoded if sequence is not None]


def packed_losses(options: argparse.Namespace) -> Result:
    """Score each response by our engine, in nats per token."""
    from tasks.engine.inference import scoring
    from tasks.io.weights import checkpoints

    ours = sequences(options)
    model, _ = checkpoints.load(BASE, dtype="bfloat16")
    list(scoring.losses(model, ours))
    start = time.process_time()
    by_id = {loss.id: loss.nats / loss.tokens for loss in scoring.losses(model, ours)}
    return timed(start, sum(map(len, ours))) | {"values": [by_id[sequence.id] for sequence in ours]}


def harness_losses(options: argparse.Namespace) -> Result:
    """Score the responses by lm-evaluation-harness."""
    from lm_eval.models.huggingface import HFLM

    ours = sequences(options)
    model = HFLM(pretrained=str(BASE.resolve()), dtype="bfloat16", batch_size=1, device="cpu")
    starts = [next(place for place, weight in enumerate(sequence.weights) if weight) for sequence in ours]
    requests = [
        ((str(number), ""), sequence.ids[:start], sequence.ids[start:])
        for number, (sequence, start) in enumerate(zip(ours, starts, strict=True))
    ]
    model._loglikelihood_tokens(requests, disable_tqdm=True)
    start = time.process_time()
    scores = model._loglikelihood_tokens(requests, disable_tqdm=True)
    values = [-value / sequence.num_trained for (value, _), sequence in zip(scores, ours, strict=True)]
    return timed(start, sum(map(len, ours))) | {"values": values}


def timed(start: float, tokens: int) -> Result:
    """Return the CPU seconds since `start`, and tokens per second."""
    seconds = time.process_time() - start
    return {"cpu_s": seconds, "tokens": tokens, "tokens_per_cpu_s": round(tokens / seconds, 1)}


def prompts(options: argparse.Namespace) -> list[str]:
    """Return the prompts of the examples."""
    return ["\n\n".join(message.content for message in row.prompt) for row in rows(options.examples)]


def packed_vectors(dtype: str) -> Callable[[argparse.Namespace], Result]:
    """Return a side that embeds prompts by our engine in this precision."""

    def side(options: argparse.Namespace) -> Result:
        from tasks.engine.inference import embedding
        from tasks.engine.inference.batches import Loaded

        texts = prompts(options)
        encoder = Loaded(*embedding.load_encoder(EMBEDDER, dtype=dtype, device="cpu"))
        embedding.encode(EMBEDDER, encoder, texts[:2])
        start = time.process_time()
        vectors = embedding.encode(EMBEDDER, encoder, texts)
        return timed(start, sum(map(len, texts)) // 4) | {"values": vectors.tolist()}

    return side


def library_vectors(options: argparse.Namespace) -> Result:
    """Embed prompts by sentence-transformers with its defaults."""
    from sentence_transformers import SentenceTransformer

    texts = prompts(options)
    model = SentenceTransformer(str(EMBEDDER), device="cpu")
    model.encode(texts[:2])
    start = time.process_time()
    vectors = model.encode(texts)
    return timed(start, sum(map(len, texts)) // 4) | {"values": vectors.tolist()}


def nearest(options: argparse.Namespace) -> Result:
    """Find the exact neighbours of random vectors."""
    import faiss  # noqa: F401  # loaded before memory is measured
    import numpy as np

    from tasks.engine.inference import neighbours

    vectors = np.random.default_rng(0).standard_normal((options.rows, 384), dtype=np.float32)
    neighbours.nearest(vectors[:100], 2, 100)
    before, start = peak(), time.process_time()
    neighbours.nearest(vectors, 2, options.rows)
    seconds = time.process_time() - start
    rate = 2 * options.rows**2 * 384 / seconds / 1e9
    memory = {"peak_mb": round(peak() - before), "all_pairs_mb": round(4 * options.rows**2 / 2**20)}
    return {"cpu_s": seconds, "gflop_per_cpu_s": round(rate, 1), "vectors_mb": round(vectors.nbytes / 2**20)} | memory


def peak() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def judging(quality: str) -> Callable[[argparse.Namespace], Result]:
    """Return a side that judges examples by the base model with this `quality` setting."""

    def side(options: argparse.Namespace) -> Result:
        from quiet import Quiet

        from tasks import methods
        from tasks.io.weights import checkpoints
        from tasks.stages.diagnose import signals
        from tasks.stages.diagnose.config import StageConfig
        from tasks.stages.diagnose.stage import TunedModel

        curator = methods.load("curators", "middo")
        examples, model = to_judge(options, curator) if options.taught else (rows(options.examples), BASE)
        compute = {"device": "cpu", "precision": "bf16", "threads": 1}
        diagnose = {"judging": {"max_new_tokens": options.words}}
        config = StageConfig.model_validate({"compute": compute, "methods": {}, "diagnose": diagnose})
        folders = {"base": model, "tuned": model}
        work = Path(tempfile.mkdtemp())  # an answer cached by an earlier run would cost nothing
        judge = TunedModel(*checkpoints.load(model, dtype="bfloat16"), folders, config, Quiet(work))
        judge.judgements(quality, examples[:1], curator)
        start = time.process_time()
        judged = judge.judgements(quality, examples, curator)
        seconds = time.process_time() - start
        scores = [curator.quality(list(judged[row.id].values())) for row in examples]
        return {
            "cpu_s": seconds,
            "cpu_s_per_example": round(seconds / len(examples), 3),
            "unreadable": signals.unreadable(judged),
            "values": scores,
        } | ({"in_order": in_order(scores)} if options.taught else {})

    return side


def in_order(scores: list[float]) -> float:
    """Return the share of pairs of an intact and a shuffled response in which the intact one scores higher; ties count half."""
    intact, dealt = scores[::2], scores[1::2]
    return round(sum((a > b) + (a == b) / 2 for a in intact for b in dealt) / len(intact) / len(dealt), 3)


def to_judge(options: argparse.Namespace, curator: Any) -> tuple[list[Any], Path]:
    """Return examples, every second one with shuffled words, and a model that was trained on other examples to judge them."""
    import judges

    taught_on = options.examples + LESSONS
    known = rows(taught_on)
    assert len(known) == taught_on, f"{EXAMPLES} has {len(known)} examples, and {taught_on} are asked for"
    model = judges.taught(BASE, known[options.examples :], curator, JUDGE)
    return judges.mixed(known[: options.examples]), model


SIDES: dict[str, dict[str, Callable[[argparse.Namespace], Result]]] = {
    "losses": {"ratchet": packed_losses, "lm-eval": harness_losses},
    "embeddings": {
        "ratchet bf16": packed_vectors("bfloat16"),
        "ratchet fp32": packed_vectors("float32"),
        "sentence-transformers": library_vectors,
    },
    "neighbours": {"ratchet": nearest},
    "judging": {"readout": judging("readout"), "generate": judging("generate")},
}


if __name__ == "__main__":
    main()
