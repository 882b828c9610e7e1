"""Test incoming data for drift from the training data, in a process of its own: `python -m tasks.monitor OUTPUT FILE…`.

It reads the training examples (`data/rounds/r0/`), the validation set (`data/ingested/`), the embedder, and the current model: the champion, or
the candidate if there is none. The verdict is written to OUTPUT as JSON, and the figures go to MLflow. If a monitor that judges single items
detects drift, the items that belong to no trained domain are written beside OUTPUT (`.new.jsonl`), and the verdict proposes an adapter for
them.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import configuration, methods
from tasks.configuration import PipelineConfig
from tasks.core import environment
from tasks.core.records import Example, Message, Refusal, content_id
from tasks.core.text.contamination import prompt_of
from tasks.io import provenance, tables
from tasks.io.runs import tracking
from tasks.io.system import files, process, progress
from tasks.io.weights import embedders
from tasks.methods.monitors import FEW, Finding
from tasks.stages.ingest.reading import incoming

TRAINED = Path("data/rounds/r0/examples.parquet")
HELD_OUT = Path("data/ingested/valid.parquet")
EMBEDDER = Path("models/embedder")
CHAMPION = Path("models/champion")
CANDIDATE = Path("models/candidate.json")

WINDOW = 256
"""Most tokens of a prompt whose hidden states are used, because means over texts of very different lengths differ by the length alone."""

Figures = NDArray[np.float32]
Compared = tuple[Figures, Sequence[str], Figures]
"""The figures of the reference, the task of each of its items, and the figures of the incoming data."""


def main(output: Path, paths: Sequence[Path]) -> None:
    """Read the incoming data, run every monitor, and write the verdict. With fewer than `FEW` rows, write that there are too few yet.

    Raises ValueError if there are enough rows, but too few of them can be read.
    """
    config = configuration.load()
    monitor_config = config.monitor
    process.set_threads(config.compute)
    rows = list(incoming.read(incoming.files(paths)))
    refused = Counter(row.reason for row in rows if isinstance(row, Refusal))
    examples = list({row.id: row for row in rows if isinstance(row, Example)}.values())
    if len(examples) < FEW:
        too_few = (
            f"{len(examples)} rows of {', '.join(map(str, paths))} can be read ({_counted(refused) or 'none was refused'}); "
            f"at least {FEW} are needed."
        )
        if len(examples) + refused.total() >= FEW:
            raise ValueError(too_few)
        files.write_atomically(output, json.dumps({"too_few": too_few}) + "\n")
        return
    items = drawn(examples, monitor_config.max_items, monitor_config.seed)
    findings = {name: _ask(name, items, config) for name in monitor_config.methods}
    level = monitor_config.alpha / len(findings)
    drifted = [name for name, finding in findings.items() if finding.chance <= level]
    verdict = {
        "drifted": drifted,
        "level": level,
        "items": len(items),
        "read": len(examples),
        "refused": dict(refused),
        "findings": {name: _facts(name, finding) for name, finding in findings.items()},
        "proposal": _proposal(items, {name: findings[name] for name in drifted}, output.with_suffix(".new.jsonl")),
    }
    _record(verdict, paths)
    files.write_atomically(output, json.dumps(verdict, indent=1) + "\n")


def drawn(examples: Iterable[Example], limit: int, seed: int) -> list[Example]:
    """Return at most `limit` of the examples, drawn by the seed and their contents, independent of their order."""
    return sorted(examples, key=lambda example: content_id(str(seed), example.id))[:limit]


def _ask(name: str, items: Sequence[Example], config: PipelineConfig) -> Finding:
    spec, monitor = methods.spec("monitors", name), methods.load("monitors", name)
    monitor_config = getattr(config.methods, name) or spec.config()
    figures = {"embeddings": _embeddings, "losses": _losses, "states": _states}[spec.sees]
    reference, tasks, came = figures(items, config)
    return monitor.score(monitor.fit(reference, tasks, monitor_config), came, config.monitor.seed)


def _facts(name: str, finding: Finding) -> dict[str, Any]:
    """Return a finding with its unit, without the indices of new items, which the proposal uses."""
    facts = asdict(finding) | {"unit": methods.spec("monitors", name).unit}
    del facts["new"]
    return facts


def _proposal(items: Sequence[Example], drifted: Mapping[str, Finding], file: Path) -> dict[str, Any] | None:
    """Return the counts of new items by file, and write their rows to `file`; None if no item is new."""
    new = [items[place] for place in sorted({place for finding in drifted.values() for place in finding.new})]
    if not new:
        return None
    files.write_atomically(file, "".join(f"{json.dumps(_row(item), ensure_ascii=False)}\n" for item in new))
    came, by_file = Counter(item.domain for item in items), Counter(item.domain for item in new)
    return {
        "task": by_file.most_common(1)[0][0],
        "items": len(new),
        "answered": sum(item.response != incoming.NONE for item in new),
        "by_file": {name: [count, came[name]] for name, count in by_file.most_common()},
        "rows": file.as_posix(),
    }


def _row(item: Example) -> dict[str, Any]:
    """Return an item in a form that `ingest` reads."""
    messages = item.prompt if item.response == incoming.NONE else item.messages
    tools = {"tools": json.loads(item.tools)} if item.tools else {}
    return {"messages": [_said(message) for message in messages]} | tools


def _said(message: Message) -> dict[str, Any]:
    """Return a message in a form that `ingest` reads, without empty fields."""
    return {name: value for name, value in asdict(message).items() if value is not None}


def _embeddings(items: Sequence[Example], config: PipelineConfig) -> Compared:
    """Return the embeddings of the training prompts and of the incoming prompts."""
    embedders.check(EMBEDDER, "monitor.methods", "leave out what looks at embeddings")
    trained = drawn(_table(TRAINED), config.monitor.reference_items, config.monitor.seed)
    texts = [prompt_of(example) for example in (*trained, *items)]
    vectors = embedders.embed(EMBEDDER, texts)
    return vectors[: len(trained)], [example.task for example in trained], vectors[len(trained) :]


def _states(items: Sequence[Example], config: PipelineConfig) -> Compared:
    """Return the hidden states of the training prompts and of the incoming prompts, under the base of the current model, without adapter."""
    from tasks.engine import device
    from tasks.engine.inference import embedding, prompt_encoding
    from tasks.io.weights import models

    device.use(config.compute)
    folder, base = model()
    network, tokenizer = models.load(base or folder, **device.placement(config.compute))
    trained = drawn(_table(TRAINED), config.monitor.reference_items, config.monitor.seed)
    prompts = [
        prompt_encoding.prompt_ids(example.prompt, tokenizer, example.tools)[:WINDOW] for example in (*trained, *items)
    ]
    states = embedding.by_layer(network, prompts, partial(progress.track, label="monitor", unit="pack"))
    return states[: len(trained)], [example.task for example in trained], states[len(trained) :]


def _losses(items: Sequence[Example], config: PipelineConfig) -> Compared:
    """Return nats and tokens of held-out and of incoming items: of the responses if every item has one, else of the prompts."""
    from tasks.engine import context, device, encode
    from tasks.engine.inference import prompt_encoding, scoring
    from tasks.io.weights import models

    device.use(config.compute)
    folder, base = model()
    network, tokenizer = models.load(folder, base, **device.placement(config.compute))
    held_out = drawn(_table(HELD_OUT), config.monitor.reference_items, config.monitor.seed)
    answered = all(item.response != incoming.NONE for item in items)
    of = partial(encode.example if answered else prompt_encoding.question, tokenizer=tokenizer)
    longest = context.longest(network)
    track = partial(progress.track, label="monitor", unit="pack")

    def figures(examples: Sequence[Example]) -> Figures:
        encoded = [sequence for example in examples if (sequence := of(example)) and len(sequence) <= longest]
        rows = [(loss.nats, loss.tokens) for loss in scoring.losses(network, encoded, track) if np.isfinite(loss.nats)]
        return np.array(rows, dtype=np.float32).reshape(-1, 2)

    reference = figures(held_out)
    return reference, [""] * len(reference), figures(items)


def model() -> tuple[Path, Path | None]:
    """Return the folder of the champion, or of the candidate if there is no champion, and the folder of its base if it is an adapter."""
    if CHAMPION.exists():
        base = CHAMPION / "base"
        return CHAMPION / "model", base if base.is_dir() else None
    model_files = json.loads(CANDIDATE.read_text(encoding="utf-8")).get("files") if CANDIDATE.is_file() else None
    if not model_files:
        raise FileNotFoundError(
            "There is no champion and no candidate to compare the data with. `ratchet run` makes one."
        )
    return Path(model_files["model"]["path"]), Path(model_files["base"]["path"]) if "base" in model_files else None


def _table(path: Path) -> list[Example]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: there is nothing to compare with. `ratchet run ingest` makes it.")
    examples = list(tables.read(path, Example))
    if len(examples) < FEW:
        raise ValueError(f"{path} holds {len(examples)} examples; at least {FEW} are needed.")
    return examples


def _record(verdict: dict[str, Any], paths: Sequence[Path]) -> None:
    """Record the figures in a separate MLflow run."""
    recorder = tracking.Recorder(
        f"monitor · {'drift' if verdict['drifted'] else 'no drift'}",
        parent=os.environ.get(environment.PARENT_RUN),
        tags={"ratchet.kind": "monitor", "ratchet.drift": str(bool(verdict["drifted"])).lower()},
    )
    recorder.params(items=verdict["items"], read=verdict["read"], refused=verdict["refused"], level=verdict["level"])
    recorder.metrics(
        {
            f"{name}.{key}": value
            for name, finding in verdict["findings"].items()
            for key, value in finding.items()
            if isinstance(value, float)
        }
    )
    recorder.datasets({path.as_posix(): provenance.digest(path) for path in paths})
    recorder.end("FINISHED")


def _counted(refused: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in refused.most_common())


if __name__ == "__main__":
    sys.exit(process.run(lambda: main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])))
