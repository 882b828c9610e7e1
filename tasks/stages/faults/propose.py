"""Wrong programs for examples, from each kind of source; what cannot be one is refused by name."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from tasks.core.programs import essence, program
from tasks.core.records import Example, Refusal
from tasks.io.sources import commits, table
from tasks.stages.faults.mutate import mutants
from tasks.stages.faults.pair import Candidate, Unfit
from tasks.stages.faults.params import Commits, Given, Mutation


def mutated(source: Mutation, examples: Sequence[Example], seed: int) -> dict[str, Iterator[Candidate]]:
    """Mutants of each example's program, made as they are asked for. They raise SyntaxError where there is no program."""
    return {example.id: _mutants(source, example, seed) for example in examples}


def _mutants(source: Mutation, example: Example, seed: int) -> Iterator[Candidate]:
    found = mutants(program(example.response), f"{seed}/{example.id}", source.operators)
    for operator, code in islice(found, source.attempts):
        yield Candidate(example, code, "mutation", operator)


def matched(source: Given | Commits, examples: Sequence[Example], refused: list[Refusal]) -> dict[str, list[Candidate]]:
    """The pairs of a source whose correct side is the program of an example. Others go to `refused`."""
    known: defaultdict[str | None, list[Example]] = defaultdict(list)
    for example in examples:
        known[_essence(program(example.response))].append(example)
    found: defaultdict[str, list[Candidate]] = defaultdict(list)
    for row in _rows(source):
        fitting = _fitting(row, known)
        if isinstance(fitting, Unfit):
            shown = row.record if isinstance(row, table.Broken) else str(row.values.get("correct", ""))
            refused.append(Refusal(_place(source), row.where, fitting.reason, fitting.detail, shown[:200]))
            continue
        assert isinstance(row, table.Row)
        for example in fitting:
            found[example.id].append(Candidate(example, program(row.values["incorrect"]), "given"))
    return found


def _rows(source: Given | Commits) -> Iterator[table.Row | table.Broken]:
    return table.rows(source.path) if isinstance(source, Given) else commits.functions(source.path, source.match)


def _fitting(row: table.Row | table.Broken, known: Mapping[str | None, list[Example]]) -> list[Example] | Unfit:
    """The examples that a given pair is about, or why there is none."""
    if isinstance(row, table.Broken):
        return Unfit(row.reason, row.detail)
    correct, incorrect = (row.values.get(name) for name in ("correct", "incorrect"))
    if not isinstance(correct, str) or not isinstance(incorrect, str):
        return Unfit("no pair", f"found {', '.join(map(str, row.values)) or 'nothing'}; expected correct and incorrect")
    meaning, asked = _essence(program(correct)), row.values.get("prompt")
    if meaning is None:
        return Unfit("no Python", "the correct side does not parse")
    found = [example for example in known.get(meaning, ()) if asked is None or asked == example.prompt[-1].content]
    return found or Unfit("no example", "no training example has this program as its answer")


def _essence(code: str) -> str | None:
    try:
        return essence(code)
    except SyntaxError:
        return None


def _place(source: Given | Commits) -> str:
    return f"{source.from_} {source.path.as_posix()}"
