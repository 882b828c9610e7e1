"""Detection rate of drift: `python benchmarks/drift.py [--trials 200] [--quiet-trials 1000] [--monitors loss_gap] [--kinds package long]`.

After `ratchet use workstation && ratchet run ingest`.

Examples of profile `workstation` (mined functions) and other incoming texts are looked at once, as each monitor does: by the profile's
embedder for `mmd`, by hidden states of the profile's base for `hdc`, and by that base's losses of the answers for `loss_gap`, which leaves out
texts without answers (`prose`). Every trial draws a reference and incoming texts, and runs the monitor with its default settings, as
`ratchet monitor` does; drift is detected at its level there (`monitor.alpha`, shared by the monitors of the default). All monitors see the
same draws. Incoming texts are

  alike     other prompts, drawn like the reference: every detection is a false alarm
  modules   as many, all from modules that the reference lacks: alike to a person, not to a test of single items
  prose     partly texts of another kind (documentation)
  reworded  partly the same requests in other words; the reference may contain the originals
  package   partly functions of a package (pydash) that the reference lacks
  long      partly from the longest quarter of the prompts; the reference may contain the same ones

Shares are printed with exact 95 % intervals. `--seeds 1 2 3` measures with other draws each, and `python docs/ledger.py drift` takes the
shares to the ledger.
"""

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.experiments import results_table
from tasks import configuration, methods, monitor
from tasks.core.records import Document, Example, Message
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
MONITORS = ("mmd", "hdc", "loss_gap")
SHIFTS = {
    "prose": (0.1, 0.25, 0.5),
    "reworded": (0.25, 0.5),
    "package": (0.25, 0.5, 1.0),
    "long": (0.5, 1.0),
}
"""The shares of incoming items that are of another kind."""
ALIKE = ("alike", "modules")
"""Kinds of incoming items that are drawn from the same pool as the reference."""

Figures = NDArray[np.float32]
"""The figures of each item that a monitor is given: vectors, or nats and tokens."""
Pairs = Iterator[tuple[Figures, Figures]]
"""A reference and what came in, trial by trial."""


@dataclass(frozen=True)
class Pool:
    """Figures to draw from, and the group of each item."""

    figures: Figures
    groups: Sequence[str]


def main() -> None:
    """Print one line for each kind and size of shift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--quiet-trials", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--monitors", nargs="+", default=MONITORS, choices=MONITORS)
    parser.add_argument("--kinds", nargs="+", default=[*ALIKE, *SHIFTS], choices=[*ALIKE, *SHIFTS])
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


def trials(
    pools: Mapping[str, Pool], kinds: Sequence[str], sizes: Sequence[int], shifted_trials: int, quiet: int, seed: int
) -> Iterator[tuple[str, Pairs]]:
    """Yield the name and the trials of each kind and size of shift."""
    for kind in kinds:
        for size in sizes:
            if kind in ALIKE:
                yield f"{kind}, {size}", alike(pools["prompts"], kind, size, quiet, seed)
            for share in SHIFTS.get(kind, ()) if kind in pools else ():
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
            yield pool.figures[drawn[:REFERENCE]], pool.figures[drawn[REFERENCE:][:size]]
            continue
        order = random.permutation(np.unique(names))
        sizes = np.cumsum([(names == name).sum() for name in order])
        is_new = np.isin(names, order[: int(np.searchsorted(sizes, size)) + 1])
        came, rest = random.permutation(np.flatnonzero(is_new)), random.permutation(np.flatnonzero(~is_new))
        yield pool.figures[rest[:REFERENCE]], pool.figures[came[:size]]


def shifted(pools: Mapping[str, Pool], kind: str, share: float, size: int, trials: int, seed: int) -> Pairs:
    """Yield a reference, and incoming items with a share of another kind."""
    random = np.random.default_rng([seed, size, round(100 * share), len(kind)])
    ordinary, others = pools["prompts"].figures, pools[kind].figures
    if kind == "package":
        ordinary = ordinary[np.array([not group.startswith(PACKAGE) for group in pools["prompts"].groups])]
    for _ in range(trials):
        drawn, strange = random.permutation(len(ordinary)), random.permutation(len(others))
        num_strange = round(share * size)
        came = np.concatenate([others[strange[:num_strange]], ordinary[drawn[: size - num_strange]]])
        yield ordinary[drawn[size:][:REFERENCE]], came


def figured(method: str) -> dict[str, Pool]:
    """Return all pools with the figures that a monitor is given, computed once."""
    examples = list(tables.read(EXAMPLES, Example))
    prompts = [prompt_of(example) for example in examples]
    again = [reworded(prompt) for prompt in prompts[::2]]
    sees = methods.spec("monitors", method).sees
    if sees == "losses":
        documents = []
        figures = _figures([*prompts, *again], [*examples, *examples[::2]], sees)
    else:
        documents = [row.text[:600] for row in tables.read(DOCUMENTS, Document) if row.domain == "general"]
        figures = _figures([*prompts, *documents, *again], [], sees)
    domain, prose, other = np.split(figures, [len(prompts), len(prompts) + len(documents)])
    groups = [example.domain + " " + example.group for example in examples]
    longest = np.argsort([len(prompt) for prompt in prompts])[-len(prompts) // 4 :]
    package = np.array([group.startswith(PACKAGE) for group in groups])
    pools = {
        "prompts": Pool(domain, groups),
        "reworded": Pool(other, []),
        "package": Pool(domain[package], []),
        "long": Pool(domain[longest], []),
    }
    return pools | ({"prose": Pool(prose, [])} if documents else {})


def reworded(prompt: str) -> str:
    """Return a request in other words than those of the profile's template."""
    first, _, rest = prompt.partition("\n")
    name = first.split("`")[1]
    return f"hey, could you please code up {name} for me? no docstring needed, thanks!\n{rest}"


def _figures(prompts: Sequence[str], examples: Sequence[Example], sees: str) -> Figures:
    """Return the figures of each prompt, or of the answer of its example, from the cache if they are there."""
    key = hashlib.sha256("\0".join([*prompts, *(example.response for example in examples)]).encode()).hexdigest()
    cache = CACHE / f"benchmark-drift-figures-{sees}.npz"
    if cache.is_file():
        known = np.load(cache)
        if str(known["key"]) == key:
            return np.asarray(known["figures"])
    match sees:
        case "embeddings":
            figures = embedders.embed(EMBEDDER, prompts)
        case "states":
            figures = _states(prompts)
        case _:
            figures = _losses(prompts, examples)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(cache, key=key, figures=figures)
    return figures


def _states(prompts: Sequence[str]) -> Figures:
    from tasks.engine.inference import embedding, prompt_encoding

    model, tokenizer = _base()
    encoded = [prompt_encoding.prompt_ids([Message("user", text)], tokenizer)[: monitor.WINDOW] for text in prompts]
    return embedding.by_layer(model, encoded)


def _losses(prompts: Sequence[str], examples: Sequence[Example]) -> Figures:
    """Return nats and tokens of the answer to each prompt."""
    from tasks.engine import encode
    from tasks.engine.inference import scoring

    model, tokenizer = _base()
    rows = [
        replace(example, id=str(place), messages=[Message("user", prompt), example.messages[-1]])
        for place, (prompt, example) in enumerate(zip(prompts, examples, strict=True))
    ]
    encoded = [sequence for row in rows if (sequence := encode.example(row, tokenizer))]
    figures = np.zeros((len(rows), 2), dtype=np.float32)  # an answer that the template cannot hold keeps no token
    for loss in scoring.losses(model, encoded):
        figures[int(loss.id)] = loss.nats, loss.tokens
    return figures


def _base() -> tuple[Any, Any]:
    """Return the profile's base model and its tokenizer."""
    from tasks.engine import device
    from tasks.io.weights import checkpoints

    compute = configuration.load().compute
    device.use(compute)
    return checkpoints.load(MODEL, **device.placement(compute))


if __name__ == "__main__":
    main()
