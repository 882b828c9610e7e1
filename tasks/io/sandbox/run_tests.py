"""Run the tests of a program from outside: send sources into the sandbox and check the answers that come back.

The expected output of a doctest never enters the sandbox. Neither does the expected value of a script's assertion, if it can be
separated from the tested expression (`script.py`). So even a program that has taken over its own process must produce the right values.

The other statements of a script run in the program's process, and must end in an exception that only their last line can raise. There
a program can cheat, by an object that equals everything or by a jump to the last line. No harness in the same interpreter can prevent
it, so the verdict is marked `inside`. A verdict is also marked `inside` if the value that comes out, in a script or a doctest, is
itself the result of a comparison (`taint.py`).

The last source must fail. This exposes a process that always reports success.
"""

import ast
import doctest
import reprlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

from tasks.core.records import Tests
from tasks.io.sandbox import script
from tasks.io.sandbox.connection import Failed, forged
from tasks.io.sandbox.guest.program import FILE, Answer
from tasks.io.sandbox.guest.values import Thing, decode
from tasks.io.sandbox.records import VerdictKind
from tasks.io.sandbox.taint import Scope

TESTS = "<tests>"
LENIENT = doctest.NORMALIZE_WHITESPACE
"""Doctest options for every example, in addition to its own. ELLIPSIS is left out, because with it an expected `'a lon...'` would accept
a text that was not shortened.

`True` passes for an expected `1`, as in doctest. Neither that nor lenient white space matters much. Of the 1,147 functions of the default
packages, DONT_ACCEPT_TRUE_FOR_1 would lose one, whose docstring says 1 and whose body returns True. Exact white space would lose one and
gain one. The gained one strips white space, so with lenient white space a body that returns its argument unchanged passed too.
"""

Where = Literal["inside", "outside"]
Execute = Callable[[str, str, str], Answer]
"""Runs (source, compilation mode, file name) in the program's namespace. Raises Failed if its process ends before it answers."""


def run_tests(program: str, tests: Tests, execute: Execute) -> Iterator[Where]:
    """Run the program, then its tests.

    Yields where each executed expectation is compared. Raises Failed if the program or a test fails.
    """
    load(program, tests, execute)
    yield from (run_examples if tests.kind == "doctest" else run_script)(tests, execute)
    token = secrets.token_hex()
    if token not in execute(f"raise AssertionError({token!r})", "exec", TESTS).error:
        raise forged()


def load(program: str, tests: Tests, execute: Execute) -> None:
    """Run the prelude and the program. Raises Failed if one of them raises."""
    for source in (tests.prelude, program):
        answer = execute(source, "exec", FILE)
        if answer.phase == "compile":
            raise Failed("syntax", answer.error)
        expect_success(answer)


def perform(program: str, tests: Tests, execute: Execute) -> Iterator[str | None]:
    """Run the program and a docstring's examples.

    Yields the output of each example, None if it raises. Raises Failed if the program fails or the examples cannot be parsed.
    """
    load(program, tests, execute)
    for example in read_examples(tests.code):
        answer = execute(example.source, "single", TESTS)
        yield None if answer.phase else answer.output


def run_script(tests: Tests, execute: Execute) -> Iterator[Where]:
    """Send a script's questions to the program and run the statements between them."""
    steps = script.steps(tests.code, tests.entry)
    compared_inside = False
    for step in steps:
        if isinstance(step, script.Question):
            compared_inside |= check(step, execute) == "inside"
        else:
            run_to_end(step.source, execute)
            compared_inside |= step.inside
    has_question = any(isinstance(step, script.Question) for step in steps)
    # Without a question, the only evidence is that the script ran to its end, which the program itself reports.
    if steps:
        yield "outside" if has_question and not compared_inside else "inside"


def check(question: script.Question, execute: Execute) -> Where:
    """Evaluate the question's expression in the sandbox. Raises Failed unless its value is the expected one.

    Returns where the value was compared. A value that cannot leave the sandbox is compared inside, if the question is whether it contains a
    literal (as a range may) or whether it is above or below one (as a large set may be).
    """
    expression = question.expression
    if question.membership or question.order:  # evaluate it once, because a generator's next value differs
        expression = f"({script.VALUE} := {expression})"
    answer = execute(expression, "eval", TESTS)
    expect_success(answer)
    try:
        value = decode(answer.value)
    except ValueError:
        raise forged() from None
    try:
        holds = question.holds(value)
    except Exception as error:  # the comparison would have raised in the script too
        if isinstance(value, Thing) and (about_value := question.membership or (value.builtin and question.order)):
            run_to_end(f"assert {about_value}{question.message and f', {question.message}'}", execute)
            return "inside"
        raise Failed("exception", f"{type(error).__name__}: {error}") from error
    if not holds:
        if question.message:
            expect_success(execute(f"raise AssertionError({question.message})", "exec", TESTS))
        raise Failed("assertion", f"got {shown(value)} in: {question.assertion}")
    return "inside" if question.inside else "outside"


def shown(value: Any) -> str:
    """Return a short form of a value."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python refuses to print an integer of too many digits
        return f"<a long {type(value).__name__}>"


def run_to_end(source: str, execute: Execute) -> None:
    """Run statements of a script and check that they reach their end, where an added line raises a secret.

    The absence of an exception would prove nothing.
    """
    token = secrets.token_hex()
    answer = execute(f"{source}\nraise AssertionError({token!r})\n", "exec", TESTS)
    if token not in answer.error:
        expect_success(answer)
        raise forged()


def run_examples(tests: Tests, execute: Execute) -> Iterator[Where]:
    """Run a docstring's examples in turn and compare their output with the expected one."""
    scope = Scope(tests.entry)
    for example in read_examples(tests.code):
        flags = flags_of(example)
        if not flags & doctest.SKIP:
            answer = execute(example.source, "single", TESTS)
            from_program = prints_values(example.source, scope)
            if example.want:
                yield "outside" if from_program else "inside"
            compare(example, answer, flags)


def prints_values(source: str, scope: Scope) -> bool:
    """Return True if an example prints values of the program, False if it may print the result of a comparison."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # it does not compile, so it compares nothing
    from_program = True
    for statement in body:
        from_program &= (
            scope.is_program_value(statement.value)
            if isinstance(statement, ast.Expr)
            else scope.compares_nothing(statement)
        )
        scope.enter(statement)
    return from_program


def read_examples(code: str) -> list[doctest.Example]:
    """Parse a docstring's examples. Raises Failed if that is impossible."""
    try:
        return doctest.DocTestParser().get_examples(code)
    except ValueError as error:
        raise Failed("untested", f"the examples cannot be read: {error}") from error


def flags_of(example: doctest.Example) -> int:
    """Return the doctest options of an example. White space is lenient unless the example switches that off."""
    switched_on = sum(flag for flag, on in example.options.items() if on)
    switched_off = sum(flag for flag, on in example.options.items() if not on)
    return (LENIENT | switched_on) & ~switched_off


def compare(example: doctest.Example, answer: Answer, flags: int) -> None:
    """Raise Failed unless the example printed, or raised, the expected text."""
    want, got = example.want, answer.output
    if answer.phase:
        if example.exc_msg is None:
            expect_success(answer)
        want, got = example.exc_msg or "", answer.error
        if flags & doctest.IGNORE_EXCEPTION_DETAIL:
            want, got = exception_name(want), exception_name(got)
    if not doctest.OutputChecker().check_output(want, got, flags):
        source = example.source.strip().partition("\n")[0]
        raise Failed("assertion", f"{source}: expected {want.strip()!r}, got {got.strip()!r}")


def expect_success(answer: Answer) -> None:
    """Raise Failed if the answer reports an exception."""
    if answer.phase:
        raise Failed(cast(VerdictKind, answer.kind), answer.error)  # `Connection` refuses answers of any other kind


def exception_name(text: str) -> str:
    """Return `Error` for `package.Error: message`."""
    return text.strip().partition("\n")[0].partition(":")[0].rpartition(".")[2] + "\n"
