"""What the signals of stage `diagnose` cost: `python benchmarks/signals.py losses|embeddings|neighbours|judging [--rounds 3]`.

Needs a workspace whose `fetch` and `ingest` have run. Sides take turns, each in a process of its own on one thread, and are
compared by CPU time, paired by round; ratios are what to read.

losses      responses of examples under the base model in bf16, beside lm-evaluation-harness (HFLM, bf16, batch 1, its best on a
            CPU), which is given the very same tokens: `pip install "ratchet-llm[lm-eval]"`; and how far samples are apart.
            Each side reads all of them once before it is timed: memory is asked for once, however many examples follow
embeddings  prompts by the embedder in bf16 and fp32, beside sentence-transformers' default; and the least cosine
neighbours  the exact nearest of `--rows` random vectors of width 384, and by how much memory peaks
judging     six judgements an example, read from one forward pass and from the model's words. SmolLM2-135M's cannot be read:
            `--taught` teaches it to answer first (judges.py), and deals the words of every second response anew. An answer ends
            after `--words` tokens: by default where stage `diagnose` ends it, behind the score; the paper's after 1024, since
            its judge explains itself
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
"""Examples that a judge is taught on, after those that are judged."""
Result = dict[str, Any]


def main() -> None:
    """Run all sides of a measurement in turn and print what came of it."""
    sys.path.insert(0, str(ROOT))
    from tasks.stages.diagnose.params import Judging

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
    found: dict[str, list[Result]] = {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            found[side].append(run(side))
            shown = {name: value for name, value in found[side][-1].items() if not isinstance(value, list)}
            print(f"round {number + 1}, {side}: {shown}", flush=True)
    report(found)


def run(side: str) -> Result:
    """One side in a process of its own."""
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def report(found: dict[str, list[Result]]) -> None:
    """How many times the CPU time of the first side each other one takes, with an interval over rounds, and how far they are apart."""
    from tasks.core import statistics

    first, *others = found
    for other in others:
        ratios = [b["cpu_s"] / a["cpu_s"] for a, b in zip(found[first], found[other], strict=True)]
        ratio = statistics.over_seeds(ratios)
        print(f"\n{other} takes {ratio.value:.2f} × [{ratio.low:.2f}, {ratio.high:.2f}] of {first}'s CPU time")
        print(apart(found[first][0], found[other][0]))


def apart(one: Result, other: Result) -> str:
    """How far what two sides found is apart."""
    from scipy.stats import spearmanr

    pairs = list(zip(one["values"], other["values"], strict=True))
    if isinstance(one["values"][0], list):
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


def cosine(one: list[float], other: list[float]) -> float:
    """Of two vectors."""
    import numpy as np

    return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def rows(count: int) -> list[Any]:
    """The first examples."""
    import torch

    from tasks.core.records import Example
    from tasks.io import tables
    from tasks.run import quiet

    quiet()
    torch.set_num_threads(1)
    return tables.read(EXAMPLES, Example)[:count]


def sequences(options: argparse.Namespace) -> list[Any]:
    """The same as tokens."""
    from tasks.engine import encode
    from tasks.io import checkpoints

    found = encode.examples(rows(options.examples), checkpoints.load_tokenizer(BASE), 1024)
    return [sequence for sequence in found if sequence is not None]


def packed_losses(options: argparse.Namespace) -> Result:
    """Nats a token of each response, by ours."""
    from tasks.engine import scoring
    from tasks.io import checkpoints

    ours = sequences(options)
    model, _ = checkpoints.load(BASE, dtype="bfloat16")
    list(scoring.losses(model, ours))
    start = time.process_time()
    found = {loss.id: loss.nats / loss.tokens for loss in scoring.losses(model, ours)}
    return timed(start, sum(map(len, ours))) | {"values": [found[sequence.id] for sequence in ours]}


def harness_losses(options: argparse.Namespace) -> Result:
    """The same by lm-evaluation-harness."""
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
    found = model._loglikelihood_tokens(requests, disable_tqdm=True)
    values = [-value / sequence.num_trained for (value, _), sequence in zip(found, ours, strict=True)]
    return timed(start, sum(map(len, ours))) | {"values": values}


def timed(start: float, tokens: int) -> Result:
    """CPU seconds since `start`, and what they were spent on."""
    seconds = time.process_time() - start
    return {"cpu_s": seconds, "tokens": tokens, "tokens_per_cpu_s": round(tokens / seconds, 1)}


def prompts(options: argparse.Namespace) -> list[str]:
    """The prompts of the examples."""
    return ["\n\n".join(message.content for message in row.prompt) for row in rows(options.examples)]


def packed_vectors(dtype: str) -> Callable[[argparse.Namespace], Result]:
    """A side that embeds prompts in this precision by ours."""

    def side(options: argparse.Namespace) -> Result:
        from tasks.engine import embedding

        texts = prompts(options)
        encoder = embedding.Encoder(EMBEDDER, dtype=dtype, device="cpu")
        encoder.vectors(texts[:2])
        start = time.process_time()
        found = encoder.vectors(texts)
        return timed(start, sum(map(len, texts)) // 4) | {"values": found.tolist()}

    return side


def library_vectors(options: argparse.Namespace) -> Result:
    """The same by sentence-transformers as it comes."""
    from sentence_transformers import SentenceTransformer

    texts = prompts(options)
    model = SentenceTransformer(str(EMBEDDER), device="cpu")
    model.encode(texts[:2])
    start = time.process_time()
    found = model.encode(texts)
    return timed(start, sum(map(len, texts)) // 4) | {"values": found.tolist()}


def nearest(options: argparse.Namespace) -> Result:
    """The exact neighbours of random vectors."""
    import faiss  # noqa: F401  # loaded before memory is looked at
    import numpy as np

    from tasks.engine import neighbours

    vectors = np.random.default_rng(0).standard_normal((options.rows, 384), dtype=np.float32)
    neighbours.nearest(vectors[:100], 2, 100)
    before, start = peak(), time.process_time()
    neighbours.nearest(vectors, 2, options.rows)
    seconds = time.process_time() - start
    rate = 2 * options.rows**2 * 384 / seconds / 1e9
    memory = {"peak_mb": round(peak() - before), "all_pairs_mb": round(4 * options.rows**2 / 2**20)}
    return {"cpu_s": seconds, "gflop_per_cpu_s": round(rate, 1), "vectors_mb": round(vectors.nbytes / 2**20)} | memory


def peak() -> float:
    """The largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def judging(quality: str) -> Callable[[argparse.Namespace], Result]:
    """A side that has the base model judge examples in this way."""

    def side(options: argparse.Namespace) -> Result:
        from quiet import Quiet

        from tasks import methods
        from tasks.io import checkpoints
        from tasks.stages.diagnose import gather
        from tasks.stages.diagnose.params import Settings
        from tasks.stages.diagnose.stage import Subject

        curator = methods.load("curators", "middo")
        examples, model = to_judge(options, curator) if options.taught else (rows(options.examples), BASE)
        compute = {"device": "cpu", "precision": "bf16", "threads": 1}
        diagnose = {"judging": {"max_new_tokens": options.words}}
        settings = Settings.model_validate({"compute": compute, "methods": {}, "diagnose": diagnose})
        folders = {"base": model, "tuned": model}
        work = Path(tempfile.mkdtemp())  # an answer that was kept from an earlier run would cost nothing
        subject = Subject(*checkpoints.load(model, dtype="bfloat16"), folders, settings, Quiet(work))
        subject.judgements(quality, examples[:1], curator)
        start = time.process_time()
        judged = subject.judgements(quality, examples, curator)
        seconds = time.process_time() - start
        scores = [curator.quality(list(judged[row.id].values())) for row in examples]
        return {
            "cpu_s": seconds,
            "cpu_s_per_example": round(seconds / len(examples), 3),
            "unreadable": gather.unreadable(judged),
            "values": scores,
        } | ({"in_order": in_order(scores)} if options.taught else {})

    return side


def in_order(scores: list[float]) -> float:
    """Of all pairs of a whole response and one of dealt words, the share in which the whole one has more; half of the equal ones."""
    whole, dealt = scores[::2], scores[1::2]
    return round(sum((a > b) + (a == b) / 2 for a in whole for b in dealt) / len(whole) / len(dealt), 3)


def to_judge(options: argparse.Namespace, curator: Any) -> tuple[list[Any], Path]:
    """Examples of which every second has a response of dealt words, and a model that was taught to judge such on others."""
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
