"""Search fault pairs for all examples: collect candidates, check them, verify them by tests. Examples are streamed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tasks.core.records import Example, FaultPair, Refusal, Unfit
from tasks.core.stage import Run
from tasks.core.text.programs import holds_program, judged
from tasks.core.text.visible import excerpt
from tasks.core.text.writing import Write
from tasks.stages.faults import generate, propose, verify
from tasks.stages.faults.config import Drawn, FaultsConfig, Mutation, Sampled, Source, Teacher
from tasks.stages.faults.findings import Findings
from tasks.stages.faults.pair import Candidate, Encode, meaning, pair

Writer = Callable[[Drawn, bool], Write]
"""Returns the function that generates text for a source that needs a model. The second argument is True if all answers are programs."""
Examples = Callable[[], Iterable[Example]]
"""Returns an iterable over all examples, which starts at the first one at each call."""


class PairSearch:
    """Searches pairs, source after source, and writes them and every refused candidate to `findings`.

    Memory holds the ids of all examples that can be judged and of their pairs, and the texts of one chunk of examples.
    """

    def __init__(
        self,
        config: FaultsConfig,
        encoded: Encode,
        judge: verify.RunCases,
        run: Run,
        findings: Findings,
        writer: Writer | None = None,
    ) -> None:
        self.config, self._findings = config, findings
        self._encode, self._judge, self._run, self._writer = encoded, judge, run, writer
        self._pairs: dict[str, set[str]] = {}
        """The ids of the pairs found for each example that can be judged."""
        self._programs: set[str] = set()
        self._tested: set[str] = set()
        """`_programs`: ids of examples whose answers are programs. `_tested`: ids of those whose tests tell right answers from wrong ones."""

    def find(self, examples: Examples, total: int) -> None:
        """Find the pairs of all examples; `total` is their number.

        Raises FileNotFoundError or ValueError for a missing source.
        """
        for chunk in self._findings.chunks(self._run.track(examples(), total=total, unit="example")):
            for example in self._usable(chunk):
                self._pairs[example.id] = set()
                self._programs |= {example.id} if holds_program(example) else set()
                self._tested |= {example.id} if verify.tells_apart(example) else set()
        for source in self.config.sources:
            self._search(source, examples)

    def _usable(self, examples: Sequence[Example]) -> Iterator[Example]:
        """Yield the examples whose answer passes its tests in every run and contains no control token."""
        fitting = [example for example in examples if self._fits(example)]
        for example, unfit in zip(fitting, verify.sound(fitting, self._judge), strict=True):
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

    def _search(self, source: Source, examples: Examples) -> None:
        """Find the pairs of one source."""
        if isinstance(source, Mutation):
            for chunk in self._findings.chunks(examples()):
                self._verify(propose.mutated(source, list(self._suited(chunk, source)), self.config.seed))
        elif isinstance(source, Sampled | Teacher):
            self._verify(self._written(source, examples))
        else:
            given = propose.GivenPairs(source)
            for chunk in self._findings.chunks(examples()):
                self._verify(self._judgeable(given.matched(chunk)))
            self._findings.refused += given.refusals()

    def _judgeable(self, candidates: Mapping[str, Sequence[Candidate]]) -> dict[str, Iterator[Candidate]]:
        """Return the candidates of examples that can be judged, and refuse the others."""
        for name, some in candidates.items():
            for candidate in some if name not in self._pairs else ():
                self._refuse(candidate, Unfit("unsound example", "its own program was refused"))
        return {name: iter(some) for name, some in candidates.items() if name in self._pairs}

    def _suited(self, examples: Sequence[Example], source: Mutation | Sampled | Teacher) -> Iterator[Example]:
        """Yield the examples that need more pairs and can get them from a source, and refuse those that cannot.

        Mutations and a teacher make mistakes in programs only. That a model's answer is wrong can be shown by tests only.
        """
        for example in examples:
            if not self._is_incomplete(example.id):
                continue
            if example.id not in self._programs and not isinstance(source, Sampled):
                unfit = Unfit("no program", f"{source.from_} changes programs")
            elif example.id not in self._tested and not isinstance(source, Mutation):
                unfit = Unfit("no tests", "nothing would tell right from wrong")
            else:
                yield example
                continue
            self._refuse(Candidate(example, "", source.from_), unfit)

    def _written(self, source: Sampled | Teacher, examples: Examples) -> dict[str, Iterator[Candidate]]:
        """Return candidates that a model generates for some examples, chosen by the seed."""
        assert self._writer
        able = self._tested if isinstance(source, Sampled) else self._tested & self._programs
        names = [name for name in self._pairs if name in able and self._is_incomplete(name)]
        chosen = generate.chosen(names, source.max_examples, self.config.seed)
        asked = [
            example
            for chunk in self._findings.chunks(examples())
            for example in self._suited(chunk, source)
            if example.id in chosen
        ]
        ask = generate.attempts if isinstance(source, Sampled) else generate.on_purpose
        candidates = ask(source, asked, self.config.seed, self._writer(source, all(map(holds_program, asked))))
        return {name: iter(some) for name, some in candidates.items()}

    def _verify(self, proposals: dict[str, Iterator[Candidate]]) -> None:
        """Verify candidates in waves, one of each example per wave, until each example has enough pairs or no candidates."""
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
                    self._pairs[name].add(verdict.id)
                    self._findings.keep(verdict)

    def _next(self, name: str, candidates: Iterator[Candidate]) -> tuple[Candidate, FaultPair] | None:
        """Return the next candidate that makes a pair, not yet verified by tests.

        Once an example has enough pairs, further candidates are refused. Mutants are not: they are generated on demand.
        """
        for candidate in candidates:
            if not self._is_incomplete(name):
                if candidate.source == "mutation":
                    return None
                self._refuse(candidate, Unfit("enough pairs", f"faults.per_example is {self.config.per_example}"))
                continue
            result = pair(candidate, self.config, self._encode)
            if isinstance(result, FaultPair) and result.id in self._pairs[name]:
                result = Unfit("double", "the same wrong program is there already")
            if isinstance(result, FaultPair):
                return candidate, result
            self._refuse(candidate, result)
        return None

    def _is_incomplete(self, name: str) -> bool:
        """Return True for an example that can be judged and needs more pairs."""
        return name in self._pairs and len(self._pairs[name]) < self.config.per_example

    def _refuse(self, candidate: Candidate, unfit: Unfit) -> None:
        """Record a refusal: a mutant under its kind, a given pair under its place, any other candidate under its example."""
        mutant = candidate.source == "mutation"
        what = f"mutation {candidate.origin}" if mutant else candidate.source
        where = candidate.example.source if mutant or not candidate.origin else candidate.origin
        refusal = Refusal(what, where, unfit.reason, unfit.detail, excerpt(candidate.incorrect))
        self._findings.refused.append(refusal)
