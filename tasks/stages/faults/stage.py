"""Stage `faults`: find similar wrong answers beside the right ones of a round, and mark the differences (FAIT).

reads   data/rounds/<round>/examples.parquet, the tokenizer of models/pretrained/, and what `faults.sources` names
writes  data/rounds/<round>/faults.parquet, data/rounds/<round>/faults_refused.parquet
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tasks.core.records import Example, FaultPair, Refusal
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.core.text.writing import Write
from tasks.io import sandbox, tables
from tasks.io.weights import checkpoints
from tasks.stages.faults.config import Drawn, StageConfig, Teacher


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Find pairs, and write them and the refusals; two empty tables without sources."""
    kept: list[FaultPair] = []
    refused: list[Refusal] = []
    if config.faults.sources:
        from tasks.engine.encode import encoder
        from tasks.methods.objectives.fait.encode import encode_example
        from tasks.stages.faults import search  # most graphs have no faults: spare them the parser

        examples = tables.read(inputs["examples"], Example)
        tokenizer = checkpoints.load_tokenizer(inputs["model"])
        tools = encoder(tokenizer)
        level = sandbox.probe()
        run.note(sandbox=str(level))

        def encoded(example: Example, pair: FaultPair | None) -> Encoded | None:
            return encode_example(example, [pair] if pair else [], tools)

        def writer(source: Drawn) -> Write:
            return _writer(source, inputs["model"], config, run)

        pair_search = search.PairSearch(config.faults, encoded, partial(sandbox.run, minimum=2), run, writer)
        kept, refused = pair_search.find(examples), pair_search.refused
        verified, commented = sum(pair.verified for pair in kept), round(_mean(kept, "commented"), 6)
        run.note(fault_pairs=len(kept), fault_pairs_verified=verified, fault_marks_commented=commented)
        run.say(summary(f"faults {run.item}", len(examples), kept, refused))
    tables.write(outputs["pairs"], kept, FaultPair)
    tables.write(outputs["refused"], refused, Refusal)


def _writer(source: Drawn, model: Path, config: StageConfig, run: Run) -> Write:
    """Return the function that generates text for a source: by its server, or by the model on this machine."""
    from tasks.engine.inference import writer

    if isinstance(source, Teacher) and source.server:
        return writer.of_server(source.server, source, run)
    return writer.of_model(model, source, config.compute, run)


def summary(label: str, num_examples: int, kept: Sequence[FaultPair], refused: Sequence[Refusal]) -> str:
    """Return the two lines that the stage prints."""
    verified = sum(pair.verified for pair in kept)
    have = len({pair.example for pair in kept})
    reasons = ", ".join(f"{number} {reason}" for reason, number in Counter(r.reason for r in refused).most_common(5))
    return (
        f"{label}: {len(kept)} pairs for {have} of {num_examples} examples, {verified} verified by tests, "
        f"{_mean(kept, 'marked'):.0%} of their tokens marked, {_mean(kept, 'commented'):.0%} of these in comments or docstrings\n"
        f"refused: {reasons or 'nothing'}"
    )


def _mean(kept: Sequence[FaultPair], share: str) -> float:
    return sum(getattr(pair, share) for pair in kept) / max(len(kept), 1)
