"""Accuracy of routing prompts to members of a bank, and detection of prompts of a new task: `python benchmarks/routing.py [--tools]`.

After `ratchet use telecom-qlora && ratchet run ingest`, or any other profile with several tasks. With `--tools`, after `ratchet use tools && ratchet run
ingest`, members are tools that look alike, and a prompt is what the user says, without the list of tools; its own member is the tool that is to be called. Nothing is trained: routers `bundle` and
`nearest` know a member by hidden states of the base over training prompts of its task, and both are given the same states. With each seed a
member is described by a random half of its task's training prompts; what is routed are the prompts of the test set. Printed for each router:

  to_own   the share of test prompts that go to the member of their own task
  new      the chance that a prompt of a task without a member is farther from all members than one of a task that has one (area under the
           ROC curve), the mean over tasks left out in turn

Then the differences of the two over seeds, with their 95 % intervals (Student's t). `python docs/ledger.py routing` takes the figures to the
ledger. Shapes: N = test prompts, K = members.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from flows.experiments import results_table
from tasks import configuration
from tasks.core import statistics
from tasks.core.answers import tool_choice
from tasks.core.records import Example, Message
from tasks.io import tables
from tasks.methods.routers import Specialists
from tasks.methods.routers.bundle.config import BundleConfig
from tasks.methods.routers.bundle.method import similarities
from tasks.methods.routers.nearest.method import distances

MODEL, TRAIN, TEST = Path("models/base"), Path("data/rounds/r0/examples.parquet"), Path("data/ingested/test.parquet")
ROUTERS = {
    "bundle": lambda states, bank: -similarities(states, bank, BundleConfig().size),
    "nearest": distances,
}
"""How far each prompt is from each member, (N, K)."""


@dataclass(frozen=True)
class Prompts:
    """Prompts of a split, and what the base makes of them."""

    states_NLH: NDArray[np.float32]
    tasks_N: NDArray[np.str_]


def main() -> None:
    """Measure both routers with every seed, print the table and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tools", action="store_true", help="members are the tools that are to be called")
    options = parser.parse_args()
    of, seeds = by_tool if options.tools else by_task, options.seeds
    train, test = read(TRAIN, of), read(TEST, of)
    rows = [
        {"composition": router, "seed": seed} | measured(router, described(train, seed), test)
        for seed in seeds
        for router in ROUTERS
    ]
    show(rows)
    print(f"Figures: {results_table.save_figures('routing-tools' if options.tools else 'routing', rows)}")


Labelled = tuple[list[Message], str | None, str]
"""A prompt, the tools that it may call, and the task whose member is its own."""


def by_task(example: Example) -> Labelled | None:
    """Return the prompt of an example, whose member is its task's."""
    return example.prompt, example.tools, example.task


def by_tool(example: Example) -> Labelled | None:
    """Return the last user message, labelled with the tool to call; None for an example without one."""
    if example.task != tool_choice.SELECT:
        return None
    tool = tool_choice.chosen(example.response)
    said = [message for message in example.prompt if message.role == "user"]
    return ([said[-1]], None, tool) if isinstance(tool, str) else None


def read(rows: Path, of: Callable[[Example], Labelled | None]) -> Prompts:
    """Return the prompts of a table of examples."""
    from tasks.engine import device
    from tasks.engine.inference import embedding, prompt_encoding
    from tasks.io.weights import checkpoints

    compute = configuration.load().compute
    device.use(compute)
    model, tokenizer = checkpoints.load(MODEL, **device.placement(compute))
    labelled = [prompt for example in tables.read(rows, Example) if (prompt := of(example))]
    prompts = [prompt_encoding.prompt_ids(messages, tokenizer, tools) for messages, tools, _ in labelled]
    return Prompts(embedding.by_layer(model, prompts), np.array([task for *_, task in labelled]))


def described(train: Prompts, seed: int) -> Specialists:
    """Return the facts that routers read about the members, from a random half of each task's training prompts."""
    random = np.random.default_rng(seed)
    names = np.unique(train.tasks_N).tolist()
    halves = []
    for name in names:
        places = random.permutation(np.flatnonzero(train.tasks_N == name))
        halves.append(train.states_NLH[places[: len(places) // 2]])
    means, variances = (np.stack([moment(half) for half in halves]) for moment in (_mean, _variance))
    return Specialists(tuple(names), means, variances)


def measured(router: str, bank: Specialists, test: Prompts) -> dict[str, float]:
    """Return the two figures of a router."""
    farness_NK = ROUTERS[router](test.states_NLH, bank)
    own_N = np.array(bank.names)[farness_NK.argmin(axis=1)] == test.tasks_N
    new = [noticed(router, without(bank, name), test, name) for name in bank.names]
    return {"to_own": round(float(own_N.mean()), 6), "new": round(float(np.mean(new)), 6)}


def noticed(router: str, bank: Specialists, test: Prompts, left_out: str) -> float:
    """Return how well the distance to the nearest member detects prompts of a task that has no member."""
    nearest_N = ROUTERS[router](test.states_NLH, bank).min(axis=1)
    return float(roc_auc_score(test.tasks_N == left_out, nearest_N))


def without(bank: Specialists, name: str) -> Specialists:
    """Return a bank without one of its members."""
    places = [place for place, member in enumerate(bank.names) if member != name]
    return Specialists(tuple(bank.names[place] for place in places), bank.means[places], bank.variances[places])


def show(rows: Sequence[dict[str, float]]) -> None:
    """Print the mean figures of each router, and the differences by seed."""
    for router in ROUTERS:
        of_router = [row for row in rows if row["composition"] == router]
        means = {name: np.mean([row[name] for row in of_router]) for name in ("to_own", "new")}
        print(f"{router:<8} to_own {means['to_own']:6.1%}, new {means['new']:.3f}")
    for name in ("to_own", "new"):
        by_seed = results_table.differences_by_seed(rows, "bundle", "nearest", name)
        mean = statistics.over_seeds(by_seed)
        print(f"{name}, bundle less nearest: {mean.value:+.4f} [{mean.low:+.4f}, {mean.high:+.4f}] over {mean.n} seeds")


def _mean(states_NLH: NDArray[np.float32]) -> NDArray[np.float32]:
    return states_NLH.mean(axis=0)


def _variance(states_NLH: NDArray[np.float32]) -> NDArray[np.float32]:
    return states_NLH.var(axis=0)


if __name__ == "__main__":
    main()
