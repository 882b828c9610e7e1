"""Detection rate of drift: `python benchmarks/drift.py [--trials 200] [--quiet-trials 1000] [--monitors mmd hdc] [--kinds package long]`.

After `ratchet use workstation && ratchet run ingest`.

Prompts of profile `workstation` (mined functions) and other incoming texts are embedded once, by the profile's embedder for monitor `mmd`, and by hidden
states of the profile's model for `hdc`. Every trial draws a reference and incoming texts, and runs the monitor with its default settings, as
`ratchet monitor` does; drift is detected at its level there (`monitor.alpha`, shared by the monitors of the default). All monitors see the
same draws. Incoming texts are

  alike     other prompts, drawn like the reference: every detection is a false alarm
  modules   as many, all from modules that the reference lacks: alike to a person, not to a test of single items
  prose     partly texts of another kind (documentation)
  reworded  partly the same requests in other words; the reference may contain the originals
  package   partly functions of a package (pydash) that the reference lacks
  long      partly from the longest quarter of the prompts; the reference may contain the same ones

Monitor `loss_gap` is tested on losses resampled from real ones: `--losses` names a table of signals, as stage `diagnose` writes it;
a shift multiplies every incoming loss by a factor. Shares are printed with exact 95 % intervals. `--seeds 1 2 3` measures with
other draws each, and `python docs/ledger.py drift` takes the shares to the ledger.
"""

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.experiments import results_table
from tasks import configuration, methods, monitor
from tasks.core.records import Document, Example, Message, Signals
from tasks.core.statistics import proportion
from tasks.core.text.contamination import prompt_of
from tasks.io import tables
from tasks.io.weights import embedders
from tasks.methods.monitors import MonitorConfig

EXAMPLES, DOCUMENTS = Path("data/rounds/r0/examples.parquet"), Path("data/ingested/train_documents.parquet")
EMBEDDER, MODEL, CACHE = Path("models/embedder"), Path("models/base"), Path(".ratchet/cache")
PACKAGE = "pydash"
REFERENCE = 500
DEFAULTS = MonitorConfig()
LEVEL = DEFAULTS.alpha / len(DEFAULTS.methods)
SHIFTS = {
    "prose": (0.1, 0.25, 0.5),
    "reworded": (0.25, 0.5),
    "package": (0.25, 0.5, 1.0),
    "long": (0.5, 1.0),
}
"""The shares of incoming items that are of another kind."""
ALIKE = ("alike", "modules")
"""Kinds of incoming items that are drawn from the same pool as the reference."""

Vectors = NDArray[np.float32]
Pairs = Iterator[tuple[Vectors, Vectors]]
"""A reference and what came in, trial by trial."""


@dataclass(frozen=True)
class Pool:
    """Vectors to draw from, and the group of each item."""

    vectors: Vectors
    groups: Sequence[str]


def main() -> None:
    """Print one line for each kind and size of shift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--quiet-trials", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--monitors", nargs="+", default=["mmd", "hdc"], choices=["mmd", "hdc"])
    parser.add_argument("--kinds", nargs="+", default=[*ALIKE, *SHIFTS], choices=[*ALIKE, *SHIFTS])
    parser.add_argument("--losses", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    rows = []
    for method in chosen.monitors:
        pools = figured(method)
        for seed in chosen.seeds:
            print(f"{method}, level {LEVEL:g}, {REFERENCE} prompts of reference, seed {seed}; drift said in")
            shares = {
                name: report(name, method, pairs)
                for name, pairs in trials(pools, chosen.kinds, chosen.sizes, chosen.trials, chosen.quiet_trials, seed)
            }
            rows.append({"composition": method, "seed": seed} | shares)
    print(f"Figures: {results_table.save_figures('drift', rows)}")
    if chosen.losses:
        losses = responses(chosen.losses)
        print(f"loss_gap, level {LEVEL:g}, {len(losses)} real losses; drift said in")
        for higher, count in {
            0.0: chosen.quiet_trials,
            0.1: chosen.trials,
            0.25: chosen.trials,
            0.5: chosen.trials,
        }.items():
            for size in chosen.sizes:
                report(f"{higher:+.0%}, {size}", "loss_gap", gaps(losses, higher, size, count, chosen.seeds[0]))


def trials(
    pools: Mapping[str, Pool], kinds: Sequence[str], sizes: Sequence[int], shifted_trials: int, quiet: int, seed: int
) -> Iterator[tuple[str, Pairs]]:
    """Yield the name and the trials of each kind and size of shift."""
    for kind in kinds:
        for size in sizes:
            if kind in ALIKE:
                yield f"{kind}, {size}", alike(pools["prompts"], kind, size, quiet, seed)
            for share in SHIFTS.get(kind, ()):
                yield f"{kind} {share:.0%}, {size}", shifted(pools, kind, share, size, shifted_trials, seed)


def report(name: str, method: str, pairs: Pairs) -> float:
    """Print one line with the share of trials in which drift was detected, and return it."""
    asked, config = methods.load("monitors", method), methods.spec("monitors", method).config()
    said = [
        asked.score(asked.fit(reference, [""] * len(reference), config), came, seed).chance <= LEVEL
        for seed, (reference, came) in enumerate(pairs)
    ]
    share = proportion(sum(said), len(said))
    print(
        f"  {name:<22} {sum(said):>5} of {len(said)}: {share.value:7.1%} [{share.low:.1%}, {share.high:.1%}]",
        flush=True,
    )
    return round(share.value, 6)


def alike(pool: Pool, kind: str, size: int, trials: int, seed: int) -> Pairs:
    """Yield a reference and other items of the same pool; for `modules`, items of groups that the reference lacks."""
    random = np.random.default_rng([seed, size, len(kind)])
    names = np.array(pool.groups)
    for _ in range(trials):
        if kind == "alike":
            drawn = random.permutation(len(names))
            yield pool.vectors[drawn[:REFERENCE]], pool.vectors[drawn[REFERENCE:][:size]]
            continue
        order = random.permutation(np.unique(names))
        sizes = np.cumsum([(names == name).sum() for name in order])
        is_new = np.isin(names, order[: int(np.searchsorted(sizes, size)) + 1])
        came, rest = random.permutation(np.flatnonzero(is_new)), random.permutation(np.flatnonzero(~is_new))
        yield pool.vectors[rest[:REFERENCE]], pool.vectors[came[:size]]


def shifted(pools: Mapping[str, Pool], kind: str, share: float, size: int, trials: int, seed: int) -> Pairs:
    """Yield a reference, and incoming items of which a share is of another kind."""
    random = np.random.default_rng([seed, size, round(100 * share), len(kind)])
    ordinary, others = pools["prompts"].vectors, pools[kind].vectors
    if kind == "package":
        ordinary = ordinary[np.array([not group.startswith(PACKAGE) for group in pools["prompts"].groups])]
    for _ in range(trials):
        drawn, strange = random.permutation(len(ordinary)), random.permutation(len(others))
        num_strange = round(share * size)
        came = np.concatenate([others[strange[:num_strange]], ordinary[drawn[: size - num_strange]]])
        yield ordinary[drawn[size:][:REFERENCE]], came


def gaps(losses: Vectors, higher: float, size: int, trials: int, seed: int) -> Pairs:
    """Yield losses drawn with replacement for both sides; the incoming ones are multiplied by 1 + `higher`."""
    random = np.random.default_rng([seed, size, round(100 * higher)])
    for _ in range(trials):
        reference, came = (losses[random.integers(len(losses), size=count)] for count in (REFERENCE, size))
        yield reference, came * np.array([1 + higher, 1], dtype=np.float32)


def responses(path: Path) -> Vectors:
    """Return nats and tokens of the responses in a table of signals."""
    rows = [
        (row.loss_after * row.tokens, row.tokens) for row in tables.read(path, Signals) if row.loss_after is not None
    ]
    return np.array(rows, dtype=np.float32)


def figured(method: str) -> dict[str, Pool]:
    """Return all pools with the figures that a monitor sees, taken once."""
    examples = list(tables.read(EXAMPLES, Example))
    prompts = [prompt_of(example) for example in examples]
    documents = [row.text[:600] for row in tables.read(DOCUMENTS, Document) if row.domain == "general"]
    again = [reworded(prompt) for prompt in prompts[::2]]
    vectors = _vectors([*prompts, *documents, *again], methods.spec("monitors", method).sees)
    domain, prose, other = np.split(vectors, [len(prompts), len(prompts) + len(documents)])
    groups = [example.domain + " " + example.group for example in examples]
    longest = np.argsort([len(prompt) for prompt in prompts])[-len(prompts) // 4 :]
    package = np.array([group.startswith(PACKAGE) for group in groups])
    return {
        "prompts": Pool(domain, groups),
        "prose": Pool(prose, []),
        "reworded": Pool(other, []),
        "package": Pool(domain[package], []),
        "long": Pool(domain[longest], []),
    }


def reworded(prompt: str) -> str:
    """Return a request in other words than those of the profile's template."""
    first, _, rest = prompt.partition("\n")
    name = first.split("`")[1]
    return f"hey, could you please code up {name} for me? no docstring needed, thanks!\n{rest}"


def _vectors(texts: Sequence[str], sees: str) -> Vectors:
    key, cache = hashlib.sha256("\0".join(texts).encode()).hexdigest(), CACHE / f"benchmark-drift-{sees}.npz"
    if cache.is_file():
        known = np.load(cache)
        if str(known["key"]) == key:
            return np.asarray(known["vectors"])
    vectors = embedders.embed(EMBEDDER, texts) if sees == "embeddings" else _states(texts)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(cache, key=key, vectors=vectors)
    return vectors


def _states(texts: Sequence[str]) -> Vectors:
    from tasks.engine import device
    from tasks.engine.inference import embedding, prompt_encoding
    from tasks.io.weights import checkpoints

    compute = configuration.load().compute
    device.use(compute)
    model, tokenizer = checkpoints.load(MODEL, **device.placement(compute))
    prompts = [prompt_encoding.prompt_ids([Message("user", text)], tokenizer)[: monitor.WINDOW] for text in texts]
    return embedding.by_layer(model, prompts)


if __name__ == "__main__":
    main()
