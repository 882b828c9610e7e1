"""The generator `rules`: proposals for each operator, made from an example's program without a model."""

import doctest
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from tasks.core.records import Example, Message, Tests, Unfit, identify
from tasks.core.text.programs import locate, program
from tasks.io.sandbox import Case, Outputs, Verdict
from tasks.stages.refine.proposals import NO_PYTHON, NO_RULE, Failed, Job, Proposal
from tasks.stages.refine.rules import idioms, new_functions, variable_names
from tasks.stages.refine.rules.new_functions import Draft, Function
from tasks.stages.refine.rules.variable_names import parsed
from tasks.stages.refine.rules.version_notes import without_version_notes

Observe = Callable[[Iterator[Case]], Iterator[Outputs | Verdict]]
"""Returns the output of each call in the cases."""
MAX_PARTNERS = 4
"""Most nearest examples with which an example is composed."""


@dataclass(frozen=True)
class RuleGenerator:
    """Proposes rewrites by rule."""

    seed: int
    tries: int
    observe: Observe

    def propose(self, jobs: Sequence[Job], attempt: int) -> Iterator[Proposal | Failed | None]:
        """Yield this attempt's proposal for each job, in order; None if there is no rule left."""
        results = [self._attempt(job, attempt) for job in jobs]
        drafts = [draft for draft in results if isinstance(draft, Draft)]
        observed = self.observe(Case(draft.solution, calls_of(draft)) for draft in drafts) if drafts else iter(())
        for job, result in zip(jobs, results, strict=True):
            yield self._proposal(job, result, next(observed)) if isinstance(result, Draft) else result

    def _attempt(self, job: Job, attempt: int) -> Draft | Proposal | Failed | None:
        try:
            candidate = next(islice(self._candidates(job), attempt, None), None) if attempt < self.tries else None
        except SyntaxError as error:
            return _failed(job, NO_PYTHON, str(error)) if attempt == 0 else None
        if candidate is None and attempt == 0:
            return _failed(job, NO_RULE, f"there is none to {job.operator} this one")
        return candidate

    def _candidates(self, job: Job) -> Iterator[Draft | Proposal]:
        """Yield everything that the rules can propose for a job, in the same order at every call."""
        if job.example.tests is None or not job.example.tests.run_programs:
            return
        parsed(program(job.example.response))  # raises SyntaxError
        draw = random.Random(f"{self.seed} {job.example.id} {job.operator}")
        if job.operator == "extend":
            yield from _new_functions(job, draw)
            return
        normalized, rules = normalize(job.example)
        plain = [Proposal(normalized, job, "+".join(rules), (job.example.id,))] if rules else []
        function = new_functions.parse_function(normalized)
        more = list(new_functions.add_doctest_calls(function, draw)) if function else []
        clearer = [replace(draft, rule="+".join([*rules, draft.rule])) for draft in more]
        if job.operator == "simplify":
            yield from plain
        yield from clearer
        if job.operator == "improve":
            yield from plain

    def _proposal(self, job: Job, draft: Draft, observed: Outputs | Verdict) -> Proposal | Failed:
        if isinstance(observed, Verdict):
            return Failed(
                job, draft.rule, Unfit("cannot be run", f"{observed.kind}: {observed.detail}"), draft.solution
            )
        example = new_functions.finish_draft(draft, observed)
        if example is None:
            return Failed(
                job, draft.rule, Unfit("no expectations", "its calls print nothing to compare"), draft.solution
            )
        return Proposal(
            example, job, draft.rule, tuple(parent.id for parent in parents_of(job, draft)), "", _wrong_programs(draft)
        )


def _failed(job: Job, reason: str, detail: str) -> Failed:
    return Failed(job, "rules", Unfit(reason, detail))


def normalize(example: Example) -> tuple[Example, list[str]]:
    """Return the example with a normalised program and a docstring without version notes, and the rules that changed it."""
    assert example.tests
    code, rules = program(example.response), list[str]()
    around = f"{example.tests.prelude}\n{_sources(example.tests)}"
    for name, rule in (("idioms", idioms.normalize_idioms), ("names", variable_names.rename_variables)):
        if (changed := _applied(rule, code, around)) != code:
            code = changed
            rules.append(name)
    start, end = locate(example.response)
    response = example.response[:start] + code + example.response[end:] if rules else example.response
    prompt = [replace(message, content=without_version_notes(message.content)) for message in example.prompt]
    if prompt != example.prompt:
        rules.append("history")
    messages = [*prompt, Message("assistant", response)]
    weights = example.weights if response == example.response else None
    return replace(example, id=identify(messages, example.tests), messages=messages, weights=weights), rules


def _applied(rule: Callable[[str, str], str], code: str, around: str) -> str:
    """Return a program after a rule; unchanged if the rule cannot parse it. libcst cannot parse `return(1 if x else 2)`."""
    try:
        return rule(code, around)
    except SyntaxError:
        return code


def parents_of(job: Job, draft: Draft) -> list[Example]:
    """Return the job's example, followed by the other examples from which a draft was made."""
    others = [parent for parent in draft.parents if draft.rule == "composition" and parent.id != job.example.id]
    return [job.example, *others]


def _new_functions(job: Job, draw: random.Random) -> Iterator[Draft]:
    """Yield, alternately, compositions of a job's function with its neighbours, and variants of the function."""
    function = new_functions.parse_function(job.example)
    if function is None:
        return
    parsed = map(new_functions.parse_function, job.hints[:MAX_PARTNERS])
    partners = [partner for partner in parsed if partner]
    yield from _in_turn(_compositions(function, partners), new_functions.variants(function, draw))


def _compositions(function: Function, partners: Sequence[Function]) -> Iterator[Draft]:
    for partner in partners:
        yield from new_functions.compositions(partner, function)
        yield from new_functions.compositions(function, partner)


def _in_turn(*sources: Iterator[Draft]) -> Iterator[Draft]:
    remaining = list(sources)
    while remaining:
        for source in list(remaining):
            draft = next(source, None)
            if draft is None:
                remaining.remove(source)
            else:
                yield draft


def calls_of(draft: Draft) -> Tests:
    """Return the calls of a draft as doctests without expectations."""
    lines = (source.rstrip("\n").replace("\n", "\n... ") for source in draft.calls)
    return Tests("doctest", "".join(f">>> {line}\n" for line in lines), draft.entry, draft.prelude)


def _wrong_programs(draft: Draft) -> tuple[str, ...]:
    return (*draft.wrong_programs, f"{draft.stub}\n    pass") if draft.stub else ()


def _sources(tests: Tests) -> str:
    """Return the code that tests run, as a program."""
    if tests.kind == "script":
        return tests.code
    return "".join(example.source for example in doctest.DocTestParser().get_examples(tests.code))
