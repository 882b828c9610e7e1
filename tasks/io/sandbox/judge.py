"""Whether a program passes its tests, judged from outside: it sends sources into the sandbox and weighs what comes back.

What a doctest should print never enters the sandbox, nor does what a script's assertion compares with where the two can be told
apart (`script.py`): a program that has taken its own process over still has to produce the right values. What else a script
holds runs beside the program, and must end in a failure that only its last line can bring about; a program can still spoil that,
by an object that equals everything, or by a jump to the last line: no harness within its interpreter can rule that out, and the
verdict says `inside`. So it does where the value that comes out is itself what a comparison came to (`trust.py`), in a script or a
doctest. A last source that must fail exposes a process that merely claims success.
"""

import ast
import doctest
import reprlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

from tasks.core.records import Tests
from tasks.io.sandbox import script
from tasks.io.sandbox.exchange import Failed, forged
from tasks.io.sandbox.inside.program import FILE, Answer
from tasks.io.sandbox.inside.values import decode
from tasks.io.sandbox.records import Outcome
from tasks.io.sandbox.trust import Scope

TESTS = "<tests>"
LENIENT = doctest.NORMALIZE_WHITESPACE
"""Beside what an example asks for itself. With ELLIPSIS, `'a lon...'` would accept a text that was not shortened.

`True` for an expected `1` passes, as doctest has it. Both leniences hardly matter and stay: of the 1,147 functions that the default
packages yield, DONT_ACCEPT_TRUE_FOR_1 loses one, whose docstring says 1 and whose body says True; exact white space loses one and
gains one (which strips white space, so that returning its argument unchanged passed too).
"""

Where = Literal["inside", "outside"]
Execute = Callable[[str, str, str], Answer]
"""Runs (source, mode of compilation, file name) in the program's namespace; Failed if its process does not live to tell."""


def judge(program: str, tests: Tests, execute: Execute) -> Iterator[Where]:
    """Run the program, then its tests: for each executed expectation, where it is compared; Failed where something goes wrong."""
    load(program, tests, execute)
    yield from (run_examples if tests.kind == "doctest" else run_script)(tests, execute)
    token = secrets.token_hex()
    if token not in execute(f"raise AssertionError({token!r})", "exec", TESTS).error:
        raise forged()


def load(program: str, tests: Tests, execute: Execute) -> None:
    """Run the prelude and the program; Failed where that does not work."""
    for source in (tests.prelude, program):
        answer = execute(source, "exec", FILE)
        if answer.stage == "compile":
            raise Failed("syntax", answer.error)
        expect_success(answer)


def perform(program: str, tests: Tests, execute: Execute) -> Iterator[str | None]:
    """Run the program and a docstring's examples: what each prints, None where it raises; Failed where they cannot be run."""
    load(program, tests, execute)
    for example in read_examples(tests.code):
        answer = execute(example.source, "single", TESTS)
        yield None if answer.stage else answer.output


def run_script(tests: Tests, execute: Execute) -> Iterator[Where]:
    """Put a script's questions to the program and run what is between them."""
    steps = script.steps(tests.code, tests.entry)
    for step in steps:
        if isinstance(step, script.Question):
            put(step, execute)
        else:
            run_to_end(step.source, execute)
    asks = any(isinstance(step, script.Question) for step in steps)
    # Without a question, that it ran is all there is, in the program's own word.
    if steps:
        yield "outside" if asks and not any(step.inside for step in steps) else "inside"


def put(question: script.Question, execute: Execute) -> None:
    """Failed unless the value of the question's expression is what was expected."""
    answer = execute(question.expression, "eval", TESTS)
    expect_success(answer)
    try:
        value = decode(answer.value)
    except ValueError:
        raise forged() from None
    try:
        holds = question.holds(value)
    except Exception as error:  # as the comparison would have raised beside the program
        raise Failed("exception", f"{type(error).__name__}: {error}") from error
    if not holds:
        if question.message:
            expect_success(execute(f"raise AssertionError({question.message})", "exec", TESTS))
        raise Failed("assertion", f"got {shown(value)} in: {question.assertion}")


def shown(value: Any) -> str:
    """A value in few words."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no number of so many digits
        return f"<a long {type(value).__name__}>"


def run_to_end(source: str, execute: Execute) -> None:
    """Run a part of a script to its end, where it has to raise what only its last line knows: silence proves nothing."""
    token = secrets.token_hex()
    answer = execute(f"{source}\nraise AssertionError({token!r})\n", "exec", TESTS)
    if token not in answer.error:
        expect_success(answer)
        raise forged()


def run_examples(tests: Tests, execute: Execute) -> Iterator[Where]:
    """Run a docstring's examples in turn and compare what they print with what they should."""
    scope = Scope(tests.entry)
    for example in read_examples(tests.code):
        flags = flags_of(example)
        if not flags & doctest.SKIP:
            answer = execute(example.source, "single", TESTS)
            told = prints_values(example.source, scope)
            if example.want:
                yield "outside" if told else "inside"
            compare(example, answer, flags)


def prints_values(source: str, scope: Scope) -> bool:
    """Whether what an example prints are values of the program's, and not the outcome of a comparison."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # nothing can have been compared
    told = True
    for statement in body:
        told &= scope.told(statement.value) if isinstance(statement, ast.Expr) else scope.quiet(statement)
        scope.enter(statement)
    return told


def read_examples(code: str) -> list[doctest.Example]:
    """A docstring's examples; Failed where they cannot be read."""
    try:
        return doctest.DocTestParser().get_examples(code)
    except ValueError as error:
        raise Failed("untested", f"the examples cannot be read: {error}") from error


def flags_of(example: doctest.Example) -> int:
    """White space is forgiven unless the example says otherwise."""
    switched_on = sum(flag for flag, on in example.options.items() if on)
    switched_off = sum(flag for flag, on in example.options.items() if not on)
    return (LENIENT | switched_on) & ~switched_off


def compare(example: doctest.Example, answer: Answer, flags: int) -> None:
    """Failed unless the example printed, or raised, what it should."""
    want, got = example.want, answer.output
    if answer.stage:
        if example.exc_msg is None:
            expect_success(answer)
        want, got = example.exc_msg or "", answer.error
        if flags & doctest.IGNORE_EXCEPTION_DETAIL:
            want, got = exception_name(want), exception_name(got)
    if not doctest.OutputChecker().check_output(want, got, flags):
        source = example.source.strip().partition("\n")[0]
        raise Failed("assertion", f"{source}: expected {want.strip()!r}, got {got.strip()!r}")


def expect_success(answer: Answer) -> None:
    """Failed if there was an exception."""
    if answer.stage:
        raise Failed(cast(Outcome, answer.outcome), answer.error)  # `Exchange` lets no other words through


def exception_name(text: str) -> str:
    """`Error` of `package.Error: what happened`."""
    return text.strip().partition("\n")[0].partition(":")[0].rpartition(".")[2] + "\n"
