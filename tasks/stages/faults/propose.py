"""Propose wrong programs from mutation and from given pairs; pairs that fit no example are refused with a reason."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tasks.core.records import Example, Refusal, Unfit
from tasks.core.text.mutations import mutants
from tasks.core.text.programs import essence, program, without_docstrings
from tasks.core.text.visible import excerpt
from tasks.io.sources import commits, table
from tasks.io.sources.record import Broken, Record
from tasks.stages.faults.config import Commits, Given, Mutation
from tasks.stages.faults.pair import Candidate

NO_EXAMPLE = Unfit("no example", "no training example has this program as its answer")
LAYOUT = Unfit("other text", "it says what an example's answer says, in another layout: what differs cannot be told")


def mutated(source: Mutation, examples: Sequence[Example], seed: int) -> dict[str, Iterator[Candidate]]:
    """Return mutants of each example's program, generated on demand. Raises SyntaxError if a response is not a program."""
    return {example.id: _mutants(source, example, seed) for example in examples}


def _mutants(source: Mutation, example: Example, seed: int) -> Iterator[Candidate]:
    changes = mutants(program(example.response), f"{seed}/{example.id}", source.operators)
    for operator, code in islice(changes, source.attempts):
        yield Candidate(example, code, "mutation", operator)


class GivenPairs:
    """The pairs of a source. A pair is matched with the examples whose program is its correct side."""

    def __init__(self, source: Given | Commits) -> None:
        self._source = source
        self._rows = [_given(row) for row in _rows(source)]
        self._by_meaning: defaultdict[str, list[_GivenPair]] = defaultdict(list)
        for row in self._rows:
            if row.meaning is not None:
                self._by_meaning[row.meaning].append(row)

    def matched(self, examples: Iterable[Example]) -> dict[str, list[Candidate]]:
        """Return the pairs that fit some of the examples, each in the layout of the example's program."""
        candidates: defaultdict[str, list[Candidate]] = defaultdict(list)
        for example in examples:
            code = program(example.response)
            meaning = _essence(code)
            for row in self._by_meaning.get(meaning, ()) if meaning is not None else ():
                if row.prompt is not None and row.prompt.strip() != example.prompt[-1].content.strip():
                    continue
                row.has_example = True
                incorrect = _in_layout_of(code, program(row.correct), program(row.incorrect))
                if incorrect is not None:
                    row.fits = True
                    candidates[example.id].append(Candidate(example, incorrect, "given", self._place(row)))
        return candidates

    def refusals(self) -> list[Refusal]:
        """Return a refusal for each pair that fitted none of the examples."""
        refused = []
        for row in self._rows:
            unfit = row.unfit or (LAYOUT if row.has_example else NO_EXAMPLE)
            if not row.fits:
                refusal = Refusal(
                    self._source.from_, self._place(row), unfit.reason, unfit.detail, excerpt(row.shown or row.correct)
                )
                refused.append(refusal)
        return refused

    def _place(self, row: "_GivenPair") -> str:
        return f"{self._source.path.as_posix()}: {row.where}"


def _rows(source: Given | Commits) -> Iterator[Record]:
    if isinstance(source, Given):
        return table.rows(source.path)
    return commits.functions(source.path, source.revision, source.match)


@dataclass
class _GivenPair:
    """A row of a source, and the result of matching it."""

    where: str
    correct: str = ""
    incorrect: str = ""
    prompt: str | None = None
    meaning: str | None = None
    """The correct side without comments and layout."""
    unfit: Unfit | None = None
    """The reason if the row is not a pair."""
    shown: str = ""
    has_example: bool = False
    fits: bool = False


def _given(row: Record) -> _GivenPair:
    """Return a row as a pair, or with the reason why it is not a pair."""
    if isinstance(row, Broken):
        return _GivenPair(row.where, unfit=Unfit(row.reason, row.detail), shown=row.record)
    correct, incorrect, prompt = (row.values.get(name) for name in ("correct", "incorrect", "prompt"))
    if not isinstance(correct, str) or not isinstance(incorrect, str):
        detail = f"found {', '.join(map(str, row.values)) or 'nothing'}; expected correct and incorrect"
        return _GivenPair(row.where, unfit=Unfit("no pair", detail), shown=str(correct or ""))
    meaning = _essence(program(correct))
    unfit = Unfit("no Python", "the correct side does not parse") if meaning is None else None
    return _GivenPair(row.where, correct, incorrect, None if prompt is None else str(prompt), meaning, unfit)


def _in_layout_of(text: str, correct: str, incorrect: str) -> str | None:
    """Return the wrong program in the layout of `text` if `correct` equals `text`, except for docstrings and line ends; else None."""
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
