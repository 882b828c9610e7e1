"""Search fault pairs for all examples: collect candidates, check them, verify them by tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tasks.core.records import Example, FaultPair, Refusal, Unfit, excerpt
from tasks.core.stage import Run
from tasks.core.text.programs import holds_program, judged
from tasks.core.text.writing import Write
from tasks.stages.faults import generate, propose, verify
from tasks.stages.faults.config import Drawn, FaultsConfig, Mutation, Sampled, Source, Teacher
from tasks.stages.faults.pair import Candidate, Encode, meaning, pair

Writer = Callable[[Drawn], Write]
"""Returns the function that generates text, for a source that needs a model."""


class PairSearch:
    """Searches pairs, source after source, and records every refused candidate."""

    def __init__(
        self, config: FaultsConfig, encoded: Encode, judge: verify.RunCases, run: Run, writer: Writer | None = None
    ) -> None:
        self.config, self.refused = config, list[Refusal]()
        self._encode, self._judge, self._run, self._writer = encoded, judge, run, writer
        self._kept: dict[str, dict[str, FaultPair]] = {}

    def find(self, examples: Sequence[Example]) -> list[FaultPair]:
        """Return the pairs of all examples, in their order.

        Raises FileNotFoundError or ValueError for a missing source.
        """
        usable = {example.id: example for example in self._usable(examples)}
        for source in self.config.sources:
            self._verify(self._proposals(source, examples, usable))
        return [fault_pair for name in usable for fault_pair in self._kept.get(name, {}).values()]

    def _usable(self, examples: Sequence[Example]) -> Iterator[Example]:
        """Yield the examples whose answer passes its tests in every run and contains no control token."""
        fitting = [example for example in examples if self._fits(example)]
        tracked = self._run.track(verify.sound(fitting, self._judge), total=len(fitting), unit="example")
        for example, unfit in zip(fitting, tracked, strict=True):
            if unfit:
                self._refuse(Candidate(example, judged(example, example.response), "example"), unfit)
            else:
                yield example

    def _fits(self, example: Example) -> bool:
        code, unfit = judged(example, example.response), None
        if len(code) > self.config.max_chars:
            unfit = Unfit("too long", f"{len(code)} characters; faults.max_chars is {self.config.max_chars}")
        elif example.desirable is False:
            unfit = Unfit("undesirable", "the data call this answer undesirable")
        elif self._encode(example, None) is None:
            unfit = Unfit("control token", "it spells a token of the model that parts turns")
        else:
            try:
                meaning(example, code)
            except SyntaxError as error:
                unfit = Unfit("no Python", str(error))
        if unfit:
            self._refuse(Candidate(example, code, "example"), unfit)
        return unfit is None

    def _proposals(
        self, source: Source, examples: Sequence[Example], usable: Mapping[str, Example]
    ) -> dict[str, Iterator[Candidate]]:
        """Return a source's candidates, by example."""
        incomplete = [example for name, example in usable.items() if not self._has_enough(name)]
        if isinstance(source, Mutation | Teacher):
            incomplete = list(self._programs(incomplete, source))
        if isinstance(source, Mutation):
            return propose.mutated(source, incomplete, self.config.seed)
        if isinstance(source, Sampled | Teacher):
            return self._written(source, incomplete)
        candidates_by_example = propose.matched(source, examples, self.refused)
        for name in candidates_by_example.keys() - usable.keys():
            for candidate in candidates_by_example.pop(name):
                self._refuse(candidate, Unfit("unsound example", "its own program was refused"))
        return {name: iter(candidates) for name, candidates in candidates_by_example.items()}

    def _programs(self, examples: Sequence[Example], source: Source) -> Iterator[Example]:
        """Yield the examples whose answers are programs, and refuse the others: this source makes mistakes in programs alone."""
        for example in examples:
            if holds_program(example):
                yield example
            else:
                self._refuse(
                    Candidate(example, "", source.from_), Unfit("no program", f"{source.from_} changes programs")
                )

    def _written(self, source: Sampled | Teacher, incomplete: Sequence[Example]) -> dict[str, Iterator[Candidate]]:
        """Return candidates that a model generates.

        Examples without tests are refused: only tests show that a candidate is wrong.
        """
        assert self._writer
        tested = [example for example in incomplete if verify.tells_apart(example)]
        for example in incomplete:
            if not verify.tells_apart(example):
                self._refuse(
                    Candidate(example, "", source.from_), Unfit("no tests", "nothing would tell right from wrong")
                )
        ask = generate.attempts if isinstance(source, Sampled) else generate.on_purpose
        candidates_by_example = ask(source, tested, self.config.seed, self._writer(source))
        return {name: iter(candidates) for name, candidates in candidates_by_example.items()}

    def _verify(self, proposals: dict[str, Iterator[Candidate]]) -> None:
        """Verify candidates in rounds, one of each example per round, until each example has enough pairs or no candidates."""
        waiting = proposals
        while waiting:
            batch = [(name, proposal) for name in waiting if (proposal := self._next(name, waiting[name]))]
            verdicts = verify.judge(
                [(candidate.example, fault_pair) for _, (candidate, fault_pair) in batch], self._judge
            )
            waiting = {name: waiting[name] for name, _ in batch}
            for (name, (candidate, _)), verdict in zip(batch, verdicts, strict=True):
                if isinstance(verdict, Unfit):
                    self._refuse(candidate, verdict)
                else:
                    self._kept.setdefault(name, {})[verdict.id] = verdict

    def _next(self, name: str, candidates: Iterator[Candidate]) -> tuple[Candidate, FaultPair] | None:
        """Return the next candidate that makes a pair, before tests. Once an example has enough pairs, further candidates are refused,
        except mutants, which are generated on demand."""
        for candidate in candidates:
            if self._has_enough(name):
                if candidate.source == "mutation":
                    return None
                self._refuse(candidate, Unfit("enough pairs", f"faults.per_example is {self.config.per_example}"))
                continue
            result = pair(candidate, self.config, self._encode)
            if isinstance(result, FaultPair) and result.id in self._kept.get(name, {}):
                result = Unfit("double", "the same wrong program is there already")
            if isinstance(result, FaultPair):
                return candidate, result
            self._refuse(candidate, result)
        return None

    def _has_enough(self, name: str) -> bool:
        return len(self._kept.get(name, ())) >= self.config.per_example

    def _refuse(self, candidate: Candidate, unfit: Unfit) -> None:
        """Record a refusal: a mutant under its kind, a given pair under its place, any other candidate under its example."""
        mutant = candidate.source == "mutation"
        what = f"mutation {candidate.origin}" if mutant else candidate.source
        where = candidate.example.source if mutant or not candidate.origin else candidate.origin
        self.refused.append(Refusal(what, where, unfit.reason, unfit.detail, excerpt(candidate.incorrect)))
