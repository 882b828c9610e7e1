"""Stage `faults`: for the programs of a round, similar ones that are wrong, and the places where they differ (FAIT).

reads   data/rounds/<round>/examples.parquet, the tokenizer of models/pretrained/, and what `faults.sources` names
writes  data/rounds/<round>/faults.parquet, data/rounds/<round>/faults_refused.parquet
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.imports import lasting
from tasks.core.records import Example, FaultPair, Message, Refusal
from tasks.core.stage import Run
from tasks.io import checkpoints, sandbox, tables
from tasks.stages.faults.params import Drawn, Settings, Teacher

if TYPE_CHECKING:
    from tasks.stages.faults import write


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Find pairs, and write them and what was refused; with no source to ask, two empty tables."""
    kept: list[FaultPair] = []
    refused: list[Refusal] = []
    if settings.faults.sources:
        from tasks.engine import encode
        from tasks.stages.faults import find, write  # most graphs have no faults: spare them the parser

        examples = tables.read(inputs["examples"], Example)
        tokenizer = checkpoints.load_tokenizer(inputs["model"])
        level = sandbox.probe()
        run.note(sandbox=str(level))

        def encoded(example: Example, pair: FaultPair | None) -> encode.Encoded | None:
            return encode.example(example, tokenizer, pair)

        def writer(source: Drawn) -> write.Write:
            return _writer(source, inputs["model"], settings, run)

        finder = find.Finder(settings.faults, encoded, partial(sandbox.run, minimum=2), run, writer)
        kept, refused = finder.find(examples), finder.refused
        run.note(fault_pairs=len(kept), fault_pairs_verified=sum(pair.verified for pair in kept))
        run.say(summary(f"faults {run.item}", len(examples), kept, refused))
    tables.write(outputs["pairs"], kept, FaultPair)
    tables.write(outputs["refused"], refused, Refusal)


def _writer(source: Drawn, model: Path, settings: Settings, run: Run) -> "write.Write":
    """What answers prompts for a source: its server, or the model of this machine."""
    if isinstance(source, Teacher) and source.server:
        from tasks.io.generators.endpoint import Endpoint

        server = source.server
        endpoint = Endpoint(server.url, server.model, run.cache / "answers", server.key, server.concurrency)

        def ask(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> Iterator[str]:
            answers = endpoint.write(
                prompts, keys, temperature=source.temperature, top_p=source.top_p, max_tokens=source.max_new_tokens
            )
            yield from run.track(answers, total=len(prompts), unit="answer")

        return ask

    with lasting():
        from tasks.engine import device, generation
    device.use(settings.compute)
    speaker, tokenizer = checkpoints.load(model, dtype=device.dtype(settings.compute), device=settings.compute.device)

    def draw(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[str]:
        return generation.write(
            speaker,
            prompts,
            tokenizer,
            max_new_tokens=source.max_new_tokens,
            batch_size=source.batch_size,
            sampling=generation.Sampling(source.temperature, source.top_p, keys),
            track=partial(run.track, unit="batch"),
        )

    return draw


def summary(label: str, num_examples: int, kept: Sequence[FaultPair], refused: Sequence[Refusal]) -> str:
    """What a person wants to know, in two lines."""
    verified = sum(found.verified for found in kept)
    have = len({found.example for found in kept})
    marked = sum(found.marked for found in kept) / max(len(kept), 1)
    reasons = ", ".join(f"{number} {reason}" for reason, number in Counter(r.reason for r in refused).most_common(5))
    return (
        f"{label}: {len(kept)} pairs for {have} of {num_examples} examples, {verified} verified by tests, "
        f"{marked:.0%} of their tokens marked\nrefused: {reasons or 'nothing'}"
    )
