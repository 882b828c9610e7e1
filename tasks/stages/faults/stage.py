"""Stage `faults`: find wrong answers that are similar to the right answers of a round, and mark the differences (FAIT).

reads   data/rounds/<round>/examples.parquet, the tokenizer of models/pretrained/, and what `faults.sources` names
writes  data/rounds/<round>/faults.parquet, data/rounds/<round>/faults_refused.parquet
"""

from collections import Counter
from functools import partial
from pathlib import Path

import polars as pl

from tasks.core.records import Example, FaultPair, Refusal
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.core.text.writing import Write
from tasks.io import sandbox, tables
from tasks.io.system import files
from tasks.io.weights import checkpoints
from tasks.stages.faults.config import Drawn, StageConfig, Teacher
from tasks.stages.faults.findings import Findings


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Find pairs, and write the pairs and the refusals. Without sources both tables are empty."""
    findings = Findings(run.work / "findings")
    files.remove(run.work / "findings")  # a killed run may have left some
    (run.work / "findings").mkdir(parents=True)
    if config.faults.sources:
        find_pairs(inputs["examples"], inputs["model"], config, run, findings)
    tables.sink(outputs["pairs"], findings.pairs, FaultPair)
    tables.sink_query(outputs["refused"], findings.refusals(), Refusal)
    files.remove(run.work / "findings")
    if config.faults.sources:
        pairs = pl.read_parquet(outputs["pairs"], columns=["example", "verified", "marked", "commented"])
        refused = Counter(pl.read_parquet(outputs["refused"], columns=["reason"])["reason"].to_list())
        num_verified, commented = int(pairs["verified"].sum()), round(_mean(pairs["commented"]), 6)
        run.note(fault_pairs=len(pairs), fault_pairs_verified=num_verified, fault_marks_commented=commented)
        run.say(summary(f"faults {run.item}", tables.count(inputs["examples"], Example), pairs, refused))


def find_pairs(
    table: Path, model: Path, config: StageConfig, run: Run, findings: Findings, base: Path | None = None
) -> None:
    """Add to `findings` the pairs of a table of examples, with wrong answers of `model`, which may be an adapter of `base`."""
    from tasks.engine.encode import encoder
    from tasks.methods.objectives.fait.encode import encode_example
    from tasks.stages.faults import search  # most graphs have no faults and need no parser

    tools = encoder(checkpoints.load_tokenizer(base or model))
    level = sandbox.probe()
    run.note(sandbox=str(level))

    def encoded(example: Example, pair: FaultPair | None) -> Encoded | None:
        return encode_example(example, [pair] if pair else [], tools)

    def writer(source: Drawn, programs: bool) -> Write:
        return _writer(source, model, base, config, run, programs=programs)

    examples = partial(tables.stream, table, Example)
    judge = partial(sandbox.run, minimum=2)
    pair_search = search.PairSearch(config.faults, encoded, judge, run, findings, writer)
    pair_search.find(examples, tables.count(table, Example))


def _writer(source: Drawn, model: Path, base: Path | None, config: StageConfig, run: Run, *, programs: bool) -> Write:
    """Return the function that generates text for a source, by its server or by the model on this machine."""
    from tasks.engine.inference import writer

    if isinstance(source, Teacher) and source.server:
        return writer.of_server(source.server, source, run)
    return writer.of_model(model, source, config.compute, run, base, programs=programs)


def summary(label: str, num_examples: int, pairs: pl.DataFrame, refused: Counter[str]) -> str:
    """Return the two lines that the stage prints."""
    reasons = ", ".join(f"{number} {reason}" for reason, number in refused.most_common(5))
    return (
        f"{label}: {len(pairs)} pairs for {pairs['example'].n_unique()} of {num_examples} examples, {pairs['verified'].sum()} verified by tests, "
        f"{_mean(pairs['marked']):.0%} of their tokens marked, {_mean(pairs['commented']):.0%} of these in comments or docstrings\n"
        f"refused: {reasons or 'nothing'}"
    )


def _mean(shares: pl.Series) -> float:
    return sum(shares.to_list()) / max(len(shares), 1)
