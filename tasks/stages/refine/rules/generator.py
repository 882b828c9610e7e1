"""Proposals by rule: for each operator, what can be made of an example's program without a model."""

import doctest
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from tasks.core.programs import program
from tasks.core.records import Example, Message, Tests, Unfit, identify
from tasks.io.sandbox import Case, Outputs, Verdict
from tasks.stages.refine.propose import NO_PYTHON, NO_RULE, Failed, Job, Proposal
from tasks.stages.refine.rules import functions, history, idioms, names
from tasks.stages.refine.rules.functions import Draft, Function

Observe = Callable[[Iterator[Case]], Iterator[Outputs | Verdict]]
"""What the examples of cases print."""
MOST_PARTNERS = 4
"""Nearest examples that one is composed with."""


@dataclass(frozen=True)
class Rewriter:
    """The generator `rules`."""

    seed: int
    tries: int
    observe: Observe

    def propose(self, jobs: Sequence[Job], attempt: int) -> Iterator[Proposal | Failed | None]:
        """The proposal of this attempt for each job, in order; None where there is no rule left."""
        found = [self._attempt(job, attempt) for job in jobs]
        drafts = [draft for draft in found if isinstance(draft, Draft)]
        observed = self.observe(Case(draft.solution, _asking(draft)) for draft in drafts) if drafts else iter(())
        for job, draft in zip(jobs, found, strict=True):
            yield self._made(job, draft, next(observed)) if isinstance(draft, Draft) else draft

    def _attempt(self, job: Job, attempt: int) -> Draft | Proposal | Failed | None:
        try:
            found = next(islice(self._candidates(job), attempt, None), None) if attempt < self.tries else None
        except SyntaxError as error:
            return _nothing(job, NO_PYTHON, str(error)) if attempt == 0 else None
        if found is None and attempt == 0:
            return _nothing(job, NO_RULE, f"there is none to {job.operator} this one")
        return found

    def _candidates(self, job: Job) -> Iterator[Draft | Proposal]:
        """What the rules make of an example for its operator, the same on every call."""
        if job.example.tests is None or job.example.tests.kind == "answer":
            return
        draw = random.Random(f"{self.seed} {job.example.id} {job.operator}")
        usual, rules = in_usual_form(job.example)
        if job.operator == "extend":
            yield from _new_functions(job, draw)
            return
        plain = [Proposal(usual, job, ", ".join(rules), (job.example.id,))] if rules else []
        function = functions.taken_apart(usual)
        more = list(functions.with_more_examples(function, draw)) if function else []
        clearer = [replace(draft, rule=", ".join([*rules, draft.rule])) for draft in more]
        if job.operator == "simplify":
            yield from plain
        yield from clearer
        if job.operator == "improve":
            yield from plain

    def _made(self, job: Job, draft: Draft, observed: Outputs | Verdict) -> Proposal | Failed:
        if isinstance(observed, Verdict):
            return Failed(
                job, draft.rule, Unfit("cannot be run", f"{observed.kind}: {observed.detail}"), draft.solution
            )
        example = functions.finished(draft, observed)
        if example is None:
            return Failed(
                job, draft.rule, Unfit("no expectations", "its calls print nothing to compare"), draft.solution
            )
        return Proposal(
            example, job, draft.rule, tuple(parent.id for parent in job_parents(job, draft)), "", _idle(draft)
        )


def _nothing(job: Job, reason: str, detail: str) -> Failed:
    return Failed(job, "rules", Unfit(reason, detail))


def in_usual_form(example: Example) -> tuple[Example, list[str]]:
    """The example with its program in the usual form and its docstring without history, and the rules that changed something.

    Raises SyntaxError where its program cannot be read.
    """
    assert example.tests
    code, rules = program(example.response), list[str]()
    around = f"{example.tests.prelude}\n{_sources(example.tests)}"
    for name, rule in (("idioms", idioms.normal), ("names", names.conventional)):
        if (changed := rule(code, around)) != code:
            code = changed
            rules.append(name)
    prompt = [replace(message, content=history.without_notes(message.content)) for message in example.prompt]
    if prompt != example.prompt:
        rules.append("history")
    response = example.response.replace(program(example.response), code, 1)
    messages = [*prompt, Message("assistant", response)]
    weights = example.weights if response == example.response else None
    return replace(example, id=identify(messages, example.tests), messages=messages, weights=weights), rules


def job_parents(job: Job, draft: Draft) -> list[Example]:
    """The job's own example, then the others that a draft was made of."""
    others = [parent for parent in draft.parents if draft.rule == "composition" and parent.id != job.example.id]
    return [job.example, *others]


def _new_functions(job: Job, draw: random.Random) -> Iterator[Draft]:
    """A composition with one of its neighbours and a variant of it, by turns."""
    function = functions.taken_apart(job.example)
    if function is None:
        return
    partners = [found for hint in job.hints[:MOST_PARTNERS] if (found := functions.taken_apart(hint))]
    yield from _by_turns(_compositions(function, partners), functions.variants(function, draw))


def _compositions(function: Function, partners: Sequence[Function]) -> Iterator[Draft]:
    for partner in partners:
        yield from functions.composed(partner, function)
        yield from functions.composed(function, partner)


def _by_turns(*sources: Iterator[Draft]) -> Iterator[Draft]:
    left = list(sources)
    while left:
        for source in list(left):
            draft = next(source, None)
            if draft is None:
                left.remove(source)
            else:
                yield draft


def _asking(draft: Draft) -> Tests:
    """The calls of a draft, without expectations."""
    lines = (source.rstrip("\n").replace("\n", "\n... ") for source in draft.calls)
    return Tests("doctest", "".join(f">>> {line}\n" for line in lines), draft.entry, draft.prelude)


def _idle(draft: Draft) -> tuple[str, ...]:
    return (*draft.others, f"{draft.stub}\n    pass") if draft.stub else ()


def _sources(tests: Tests) -> str:
    """What tests run, as a program."""
    if tests.kind == "script":
        return tests.code
    return "".join(example.source for example in doctest.DocTestParser().get_examples(tests.code))
