"""The pairs of all examples: proposed, held against what a fault is, verified by tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tasks.core.programs import essence, program
from tasks.core.records import Example, FaultPair, Refusal, Unfit, excerpt
from tasks.core.stage import Run
from tasks.core.writing import Write
from tasks.stages.faults import propose, verify, write
from tasks.stages.faults.pair import Candidate, Encode, pair
from tasks.stages.faults.params import Drawn, FaultsParams, Mutation, Sampled, Source, Teacher

Writer = Callable[[Drawn], Write]
"""Makes what writes, for a source that has a model write."""


class Finder:
    """Looks for pairs, source after source, and keeps the book of what was refused."""

    def __init__(
        self, params: FaultsParams, encoded: Encode, judge: verify.RunCases, run: Run, writer: Writer | None = None
    ) -> None:
        self.params, self.refused = params, list[Refusal]()
        self._encode, self._judge, self._run, self._writer = encoded, judge, run, writer
        self._kept: dict[str, dict[str, FaultPair]] = {}

    def find(self, examples: Sequence[Example]) -> list[FaultPair]:
        """The pairs of all examples, in their order. Raises FileNotFoundError or ValueError for a source that is not there."""
        usable = {example.id: example for example in self._usable(examples)}
        for source in self.params.sources:
            self._settle(self._proposals(source, examples, usable))
        return [found for name in usable for found in self._kept.get(name, {}).values()]

    def _usable(self, examples: Sequence[Example]) -> Iterator[Example]:
        """The examples that answer with a program, one that does what it should every time and opens no turn."""
        programs = [example for example in examples if self._is_program(example)]
        tracked = self._run.track(verify.sound(programs, self._judge), total=len(programs), unit="example")
        for example, unfit in zip(programs, tracked, strict=True):
            if unfit:
                self._refuse(Candidate(example, program(example.response), "example"), unfit)
            else:
                yield example

    def _is_program(self, example: Example) -> bool:
        code, unfit = program(example.response), None
        if len(code) > self.params.max_chars:
            unfit = Unfit("too long", f"{len(code)} characters; faults.max_chars is {self.params.max_chars}")
        elif self._encode(example, None) is None:
            unfit = Unfit("control token", "it spells a token of the model that parts turns")
        else:
            try:
                essence(code)
            except SyntaxError as error:
                unfit = Unfit("no Python", str(error))
        if unfit:
            self._refuse(Candidate(example, code, "example"), unfit)
        return unfit is None

    def _proposals(
        self, source: Source, examples: Sequence[Example], usable: Mapping[str, Example]
    ) -> dict[str, Iterator[Candidate]]:
        """What a source has to offer, by example."""
        lacking = [example for name, example in usable.items() if not self._has_enough(name)]
        if isinstance(source, Mutation):
            return propose.mutated(source, lacking, self.params.seed)
        if isinstance(source, Sampled | Teacher):
            return self._written(source, lacking)
        found = propose.matched(source, examples, self.refused)
        for name in found.keys() - usable.keys():
            for candidate in found.pop(name):
                self._refuse(candidate, Unfit("unsound example", "its own program was refused"))
        return {name: iter(candidates) for name, candidates in found.items()}

    def _written(self, source: Sampled | Teacher, lacking: Sequence[Example]) -> dict[str, Iterator[Candidate]]:
        """What a model writes: only tests can tell whether that is wrong."""
        assert self._writer
        tested = [example for example in lacking if verify.has_tests(example)]
        for example in lacking:
            if not verify.has_tests(example):
                self._refuse(
                    Candidate(example, "", source.from_), Unfit("no tests", "nothing would tell right from wrong")
                )
        ask = write.attempts if isinstance(source, Sampled) else write.on_purpose
        found = ask(source, tested, self.params.seed, self._writer(source))
        return {name: iter(candidates) for name, candidates in found.items()}

    def _settle(self, proposals: dict[str, Iterator[Candidate]]) -> None:
        """Try one candidate of each example after the other, all examples at once, until each has its pairs or no more."""
        waiting = proposals
        while waiting:
            wave = [(name, found) for name in waiting if (found := self._next(name, waiting[name]))]
            verdicts = verify.judge([(candidate.example, pair) for _, (candidate, pair) in wave], self._judge)
            waiting = {name: waiting[name] for name, _ in wave}
            for (name, (candidate, _)), verdict in zip(wave, verdicts, strict=True):
                if isinstance(verdict, Unfit):
                    self._refuse(candidate, verdict)
                else:
                    self._kept.setdefault(name, {})[verdict.id] = verdict

    def _next(self, name: str, candidates: Iterator[Candidate]) -> tuple[Candidate, FaultPair] | None:
        """The next candidate that makes a pair, as far as its text tells. What comes when there are enough is refused, mutants
        aside, which are made as they are asked for."""
        for candidate in candidates:
            if self._has_enough(name):
                if candidate.source == "mutation":
                    return None
                self._refuse(candidate, Unfit("enough pairs", f"faults.per_example is {self.params.per_example}"))
                continue
            found = pair(candidate, self.params, self._encode)
            if isinstance(found, FaultPair) and found.id in self._kept.get(name, {}):
                found = Unfit("double", "the same wrong program is there already")
            if isinstance(found, FaultPair):
                return candidate, found
            self._refuse(candidate, found)
        return None

    def _has_enough(self, name: str) -> bool:
        return len(self._kept.get(name, ())) >= self.params.per_example

    def _refuse(self, candidate: Candidate, unfit: Unfit) -> None:
        """Enter a candidate into the book: a mutant with its kind, a given pair with its place, under its example otherwise."""
        mutant = candidate.source == "mutation"
        what = f"mutation {candidate.origin}" if mutant else candidate.source
        where = candidate.example.source if mutant or not candidate.origin else candidate.origin
        self.refused.append(Refusal(what, where, unfit.reason, unfit.detail, excerpt(candidate.incorrect)))
