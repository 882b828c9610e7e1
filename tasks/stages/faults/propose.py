"""Candidates for wrong programs from mutation and from given pairs; pairs that fit no example are refused with a reason."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from tasks.core.records import Example, Refusal, Unfit, excerpt
from tasks.core.text.mutations import mutants
from tasks.core.text.programs import essence, program, without_docstrings
from tasks.io.sources import commits, table
from tasks.io.sources.record import Broken, Record
from tasks.stages.faults.config import Commits, Given, Mutation
from tasks.stages.faults.pair import Candidate


def mutated(source: Mutation, examples: Sequence[Example], seed: int) -> dict[str, Iterator[Candidate]]:
    """Return mutants of each example's program, generated on demand. SyntaxError if a response is not a program."""
    return {example.id: _mutants(source, example, seed) for example in examples}


def _mutants(source: Mutation, example: Example, seed: int) -> Iterator[Candidate]:
    changes = mutants(program(example.response), f"{seed}/{example.id}", source.operators)
    for operator, code in islice(changes, source.attempts):
        yield Candidate(example, code, "mutation", operator)


def matched(source: Given | Commits, examples: Sequence[Example], refused: list[Refusal]) -> dict[str, list[Candidate]]:
    """Return a source's pairs whose correct side is the program of an example.

    Other pairs are appended to `refused`.
    """
    known: defaultdict[str | None, list[Example]] = defaultdict(list)
    for example in examples:
        known[_essence(program(example.response))].append(example)
    candidates: defaultdict[str, list[Candidate]] = defaultdict(list)
    for row in _rows(source):
        place = f"{source.path.as_posix()}: {row.where}"
        fitting = _fitting(row, known)
        if isinstance(fitting, Unfit):
            shown = row.record if isinstance(row, Broken) else str(row.values.get("correct", ""))
            refused.append(Refusal(source.from_, place, fitting.reason, fitting.detail, excerpt(shown)))
            continue
        for example, incorrect in fitting:
            candidates[example.id].append(Candidate(example, incorrect, "given", place))
    return candidates


def _rows(source: Given | Commits) -> Iterator[Record]:
    if isinstance(source, Given):
        return table.rows(source.path)
    return commits.functions(source.path, source.revision, source.match)


def _fitting(row: Record, known: Mapping[str | None, list[Example]]) -> list[tuple[Example, str]] | Unfit:
    """Return the examples that a given pair fits, each with the wrong program in its layout; or the reason if there are none."""
    if isinstance(row, Broken):
        return Unfit(row.reason, row.detail)
    correct, incorrect, prompt = (row.values.get(name) for name in ("correct", "incorrect", "prompt"))
    if not isinstance(correct, str) or not isinstance(incorrect, str):
        return Unfit("no pair", f"found {', '.join(map(str, row.values)) or 'nothing'}; expected correct and incorrect")
    meaning = _essence(program(correct))
    if meaning is None:
        return Unfit("no Python", "the correct side does not parse")
    examples = [
        example
        for example in known.get(meaning, ())
        if prompt is None or str(prompt).strip() == example.prompt[-1].content.strip()
    ]
    if not examples:
        return Unfit("no example", "no training example has this program as its answer")
    in_layout = [
        (example, _in_layout_of(program(example.response), program(correct), program(incorrect)))
        for example in examples
    ]
    fitting = [(example, text) for example, text in in_layout if text is not None]
    return fitting or Unfit(
        "other text", "it says what an example's answer says, in another layout: what differs cannot be told"
    )


def _in_layout_of(text: str, correct: str, incorrect: str) -> str | None:
    """Return the wrong program in the layout of `text`, if `correct` equals `text` up to docstrings and line ends; else None."""
    for normalise in (_lines, lambda code: _lines(without_docstrings(code))):
        try:
            if normalise(correct) == _lines(text):
                ending = text[len(text.rstrip("\n")) :]
                return "\n".join(normalise(incorrect)) + ending
        except SyntaxError:
            return None
    return None


def _lines(code: str) -> list[str]:
    return [line.rstrip() for line in code.strip("\n").splitlines()]


def _essence(code: str) -> str | None:
    try:
        return essence(code)
    except SyntaxError:
        return None
