"""The pairs of all examples: proposed, held against what a fault is, verified by tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tasks.core.records import Example, FaultPair, Refusal
from tasks.core.stage import Run
from tasks.stages.faults import propose, verify, write
from tasks.stages.faults.pair import Candidate, Encode, Unfit, pair
from tasks.stages.faults.params import Drawn, FaultsParams, Mutation, Sampled, Source, Teacher

Writer = Callable[[Drawn], write.Write]
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
        usable = list(self._sound(examples))
        for source in self.params.sources:
            lacking = [e for e in usable if len(self._kept.get(e.id, ())) < self.params.per_example]
            self._settle(self._proposals(source, lacking))
        return [found for example in usable for found in self._kept.get(example.id, {}).values()]

    def _sound(self, examples: Sequence[Example]) -> Iterator[Example]:
        """The examples whose own program does what it should, every time."""
        tracked = self._run.track(examples, unit="example")
        for example, unfit in zip(examples, verify.sound(list(tracked), self._judge), strict=True):
            if unfit is None:
                yield example
            else:
                self._refuse(Candidate(example, "", "example"), unfit)

    def _proposals(self, source: Source, lacking: Sequence[Example]) -> Mapping[str, Iterator[Candidate]]:
        seed = self.params.seed
        if isinstance(source, Mutation):
            return propose.mutated(source, lacking, seed)
        if isinstance(source, Sampled | Teacher):
            assert self._writer
            ask = write.attempts if isinstance(source, Sampled) else write.on_purpose
            found = ask(source, lacking, seed, self._writer(source))
        else:
            found = propose.matched(source, lacking, self.refused)
        return {name: iter(candidates) for name, candidates in found.items()}

    def _settle(self, proposals: Mapping[str, Iterator[Candidate]]) -> None:
        """Try one candidate of each example after the other, all examples at once, until each has its pairs or no more."""
        waiting = dict(proposals)
        while waiting:
            wave = [(name, found) for name in waiting if (found := self._next(waiting[name]))]
            verdicts = verify.judge([(candidate.example, pair) for _, (candidate, pair) in wave], self._judge)
            waiting = {name: waiting[name] for name, _ in wave}
            for (name, (candidate, _)), verdict in zip(wave, verdicts, strict=True):
                if isinstance(verdict, Unfit):
                    self._refuse(candidate, verdict)
                    continue
                mine = self._kept.setdefault(name, {})
                mine[verdict.id] = verdict
                if len(mine) >= self.params.per_example:
                    del waiting[name]

    def _next(self, candidates: Iterator[Candidate]) -> tuple[Candidate, FaultPair] | None:
        """The next candidate that makes a pair, as far as its text tells."""
        try:
            for candidate in candidates:
                found = pair(candidate, self.params, self._encode)
                if isinstance(found, FaultPair):
                    if found.id not in self._kept.get(candidate.example.id, {}):
                        return candidate, found
                else:
                    self._refuse(candidate, found)
        except SyntaxError:
            return None  # an answer that is no program cannot be mutated
        return None

    def _refuse(self, candidate: Candidate, unfit: Unfit) -> None:
        example = candidate.example
        what = f"{candidate.source} {candidate.operator}".strip()
        self.refused.append(Refusal(what, example.source, unfit.reason, unfit.detail, candidate.incorrect[:200]))
