"""One short training of everything that the tables of coverage name: `python benchmarks/coverage.py [NAME …]`.

Each method and each class of peft in `docs/coverage/*.json` trains on a tiny LLaMA, Qwen2 and GPT-2 of random weights, which learnt the text of a
licence for some steps before: without anything learnt nothing could be forgotten. Methods train through the engine, in packs, with bodies of functions;
classes of peft as peft runs them, on the same text, and one step of theirs is tried in packs too. Of each on each model:

  trains   numbers that train at some step
  merges   whether plain weights compute the same, tried and compared
  saved    bytes that a pass keeps for going backward
  peak     the most bytes of tensors in the training, weights left out, by the allocator's own count
  file     bytes of the weights that are saved
  learned  change of the loss on the text that trains, nats per token
  forgot   change of the loss on other text, the licence

or the error that named why it cannot. Learning rates are one for all and not searched: the last two columns show that something moves, and compare nothing.
Figures go to `docs/coverage/data/steps.json`, of NAMEs alone into what is there; `make reference` writes the page.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import coverage_peft  # noqa: E402  # the path comes first, where this runs as a script
from benchmarks.coverage_models import RANK, RATE, SEQUENCES, TOKENS, base, bytes_of, said, scratch, texts  # noqa: E402
from docs import coverage_page  # noqa: E402

SMALL: dict[str, dict[str, Any]] = {
    "dept": {"num_tokens": 4, "rank": 3, "max_tokens": 256},
    "fourierft": {"n": 64},
    "loca": {"n": 64, "coefficient_steps": 1, "place_steps": 1},
    "vera": {"rank": 16},
    "mhr": {"heads": 4},
    "mola": {"experts": (2, 2, 2, 2)},
    "mixda": {"reduction": 4},
    "adept": {"layers": 1, "interval": 2},
    "llama_pro": {"layers": 1},
    "sherl": {"reduction": 4, "every": 1},
    "lemo": {"block": 16, "first": 0, "mlp_keep": 1},  # LoRA trains the MLPs too
    "soka": {"min_terms": 2, "max_terms": 2},
    "loldu": {"rank": 8},
    "oft": {"block_size": 8},
    "lokr": {"rank": 2, "factor": 2},
    "lisa": {"layers": 1, "period": 2},
    "ist": {"sets": 2, "period": 2},
    "locft_bf": {"layer": 1},
    "pat": {"operator_rank": 4},
}
"""Settings of methods whose defaults are for larger models; the rank of all others is `RANK`."""


def composition(name: str, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the plan of a training in which a method takes part, and its parts."""
    from tasks import methods
    from tasks.core.training import FAMILIES, Training
    from tasks.engine.training import compose

    family = methods.families_of(name)[0]
    spec = methods.spec(family, name)
    with_lora = family in ("bases", "compressors", "sparsifiers") or (family == "selectors" and spec.needs_linear)
    chosen = {"adapter": "lora" if with_lora else "none"}
    if family in FAMILIES:
        chosen |= {family.removesuffix("s"): name}
    plan = Training(
        **chosen,
        max_tokens=100_000,
        pack_tokens=2 * SEQUENCES * TOKENS,
        save_every=0,
        validate_every=0,
        warmup=0.0,
        schedule="constant_with_warmup",
    )
    sections: dict[str, dict[str, Any]] = {getattr(plan, one.removesuffix("s")): {} for one in FAMILIES}
    for used in sections:
        fields = [methods.spec(one, used).config.model_fields for one in methods.families_of(used)]
        sections[used] = {"rank": RANK} if any("rank" in known for known in fields) else {}
        sections[used] |= SMALL.get(used, {})
    sections[name] = sections.get(name, {}) | dict(settings)
    sections[plan.optimizer] |= {"learning_rate": RATE if plan.optimizer == "adamw" else 1e-5}
    return plan, compose.read(plan, sections)


def examples() -> list[Any]:
    """Return the functions' text as examples of two tasks, each with a worse answer or a judgement."""
    from tests import tiny

    rows = ["".join(map(chr, row)) for row in texts()[1].tolist()]
    return [
        tiny.example(number, prompt="Go on.", response=row, rejected=row[::-1], task="ab"[number % 2])
        for number, row in enumerate(rows)
    ]


def encoded(objective: Any, tokenizer: Any, longest: int) -> list[Any]:
    """Return the functions' text as an objective reads it: plain, or as conversations if the objective has its own `encode`."""
    from tasks.core.sequences import Encoded
    from tasks.engine.encode import ExampleEncoder
    from tasks.engine.sequences import listed
    from tasks.engine.tokenized import linked

    if not objective.method.encode:
        return [
            Encoded(f"{number}", row, [1.0] * len(row), task="ab"[number % 2])
            for number, row in enumerate(texts()[1].tolist())
        ]
    encoder = ExampleEncoder(tokenizer, longest, objective=objective)
    sequences = [sequence for example in examples() for sequence in encoder(example).sequences]
    return list(linked(listed(sequences), encoder))


def of_method(name: str, settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Train a composition with a method by the engine, and return its figures."""
    from tasks import methods
    from tasks.core.compute import Compute
    from tasks.core.weights.surgery import plain
    from tasks.engine.packing import Pack, collate
    from tasks.engine.training import job, store, train
    from tasks.engine.training.allocations import allocations, saved_bytes
    from tasks.engine.training.reference import with_reference

    plan, parts = composition(name, settings)
    compute, work = Compute(precision="fp32", threads=1), Path(tempfile.mkdtemp(dir=scratch()))
    model, tokenizer = job.load(base(kind), parts, compute)
    objective = parts.objective
    sequences = encoded(objective, tokenizer, plan.pack_tokens)
    if objective.spec.reference:
        sequences = with_reference(model, sequences, {}, compute, work)
    before = packed_losses(model)
    with allocations() as running:
        result = train.train(model.train(), train.TrainData(sequences), parts, plan, compute, work / "work")
    row = collate([Pack(tuple(sequences[:SEQUENCES]))], columns=objective.spec.columns)
    saved = 0 if parts.optimizer.spec.gradient_free else saved_bytes(plain(result.model), row)
    after = packed_losses(result.model)
    store.save(result.attached, parts, tokenizer, work / "saved")
    adds = parts.base.name == "none" and (parts.adapter.name != "none" or parts.selector.spec.merges)
    is_stored = name in methods.names("compressors")
    return {
        "trains": result.trainable,
        "merges": merges_packed(result.model, parts, after) if adds else None,
        "saved": saved,
        "peak": None if parts.optimizer.spec.streams else max(running),
        "file": compressed_by(name, work, result, parts, tokenizer, kind) if is_stored else bytes_of(work / "saved"),
        "learned": after[1] - before[1],
        "forgot": after[0] - before[0],
    }


def compressed_by(name: str, work: Path, result: Any, parts: Any, tokenizer: Any, kind: str) -> int:
    """Return the bytes of the LoRA of such a training, or of its merged model, as a compressor stores it."""
    from tasks import methods
    from tasks.engine.training import compose
    from tasks.io.weights import compressed
    from tasks.methods.compressors import WeightCompressor

    method, config = methods.load("compressors", name), methods.spec("compressors", name).config()
    folder = work / "compressed"
    folder.mkdir()
    if isinstance(method, WeightCompressor):
        method.write(compose.merge(result.model, parts), tokenizer, folder, config)
    else:
        delta = method.quantise(compressed.read_delta(work / "saved", base(kind)), method.candidates(config)[0])
        compressed.write_delta(folder, method.encode(delta))
    return bytes_of(folder)


def packed_losses(model: Any) -> tuple[float, float]:
    """Return the loss of the model inside on the licence and on the functions, in nats per token."""
    import torch

    from tasks.core.sequences import Encoded
    from tasks.core.weights.surgery import plain
    from tasks.engine.forward import token_losses, use_packed_attention
    from tasks.engine.packing import Pack, collate

    inner = plain(model)
    use_packed_attention(inner)
    was_training = inner.training
    inner.eval()
    found = []
    with torch.no_grad():
        for rows in texts():
            packed = tuple(Encoded(f"{number}", row, [1.0] * len(row)) for number, row in enumerate(rows.tolist()))
            found.append(float(token_losses(inner, collate([Pack(packed)])).mean()))
    inner.train(was_training)
    return found[0], found[1]


def merges_packed(model: Any, parts: Any, expected: tuple[float, float]) -> bool:
    """Return whether the plain model that a method merges into computes the same."""
    from tasks.engine.training import compose

    if not (parts.selector.spec.merges or parts.adapter.spec.merges):
        return False
    found = packed_losses(compose.merge(model, parts))
    if any(abs(one - other) > 1e-3 for one, other in zip(found, expected, strict=True)):
        raise ValueError(f"merged weights give losses of {found}, and the trained model of {expected}")
    return True


def measured(row: coverage_page.Row) -> dict[str, dict[str, Any]]:
    """Return the figures of a row on each model, or the reason why there are none."""
    of: Callable[..., dict[str, Any]] = coverage_peft.measured if row.kind == "library" else of_method
    found: dict[str, dict[str, Any]] = {}
    for kind in coverage_page.MODELS:
        try:
            found[kind] = of(row.answer, row.settings, kind)
        except Exception as error:  # a refusal is what is measured, whoever raises it
            found[kind] = {"error": said(error)}
    return found


def versions() -> str:
    """Return the versions of what trains."""
    return ", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("torch", "transformers", "peft"))


def main() -> None:
    """Measure everything that the tables name, and write the figures after each, so that an interrupted run loses nothing."""
    runs = {row.run: row for survey in coverage_page.surveys() for row in survey.rows if row.run}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(runs)}")
    parser.add_argument("--to", type=Path, default=coverage_page.FIGURES, help="the file with the figures")
    options = parser.parse_args()
    if unknown := set(options.names) - runs.keys():
        parser.error(f"the tables name no {', '.join(sorted(unknown))}")
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of what peft advises for larger models
    kept = coverage_page.figures(options.to)
    for name, row in runs.items():
        if not options.names or name in options.names:
            kept[name] = measured(row)
            print(name, json.dumps(kept[name]), flush=True)
            write(options.to, {name: kept[name] for name in runs if name in kept})


def write(path: Path, runs: Mapping[str, Any]) -> None:
    """Write the figures of all that the tables name."""
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(run, ensure_ascii=False)}" for name, run in runs.items())
    path.write_text(f'{{\n "versions": {json.dumps(versions())},\n "runs": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
