"""Whether a program passes its tests, judged from outside: it sends sources into the sandbox and weighs what comes back.

What a doctest should print never enters the sandbox, so a program that has taken its own process over still has to produce
the right output. A script carries its expectations with it, and must end in a failure that only its last line can bring
about; a last source that must fail exposes a process that merely claims success. (A program can still spoil a script's own
comparisons, by an object that equals everything, or jump to its last line: it shares an interpreter with its tests, and no
harness within one can rule that out.)
"""

import ast
import doctest
import secrets
from collections.abc import Callable, Iterator

from tasks.core.records import Tests
from tasks.io.sandbox.inside.executor import FORGED, Failed
from tasks.io.sandbox.inside.program import FILE, Answer

TESTS = "<tests>"
LENIENT = doctest.NORMALIZE_WHITESPACE
"""Beside what an example asks for itself. With ELLIPSIS, `'a lon...'` would accept a text that was not shortened."""

Execute = Callable[[str, str, str], Answer]
"""Runs (source, mode of compilation, file name) in the program's namespace; Failed if its process does not live to tell."""


def judge(program: str, tests: Tests, execute: Execute) -> Iterator[None]:
    """Run the program, then its tests: one item per executed expectation; Failed where something goes wrong."""
    for source in (tests.prelude, program):
        answer = execute(source, "exec", FILE)
        if answer.stage == "compile":
            raise Failed("syntax", answer.error)
        expect_success(answer)
    yield from (run_examples if tests.kind == "doctest" else run_script)(tests.code, execute)
    token = secrets.token_hex()
    if token not in execute(f"raise AssertionError({token!r})", "exec", TESTS).error:
        raise Failed(*FORGED)


def run_script(code: str, execute: Execute) -> Iterator[None]:
    """Run a script to its end, where it has to raise what only its last line knows: silence proves nothing."""
    if is_empty(code):
        return
    token = secrets.token_hex()
    answer = execute(f"{code}\nraise AssertionError({token!r})\n", "exec", TESTS)
    if token not in answer.error:
        expect_success(answer)
        raise Failed(*FORGED)
    yield


def run_examples(code: str, execute: Execute) -> Iterator[None]:
    """Run a docstring's examples in turn and compare what they print with what they should."""
    try:
        examples = doctest.DocTestParser().get_examples(code)
    except ValueError as error:
        raise Failed("untested", f"the examples cannot be read: {error}") from error
    for example in examples:
        flags = flags_of(example)
        if not flags & doctest.SKIP:
            answer = execute(example.source, "single", TESTS)
            if example.want:
                yield
            compare(example, answer, flags)


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
        raise Failed(answer.outcome, answer.error)


def exception_name(text: str) -> str:
    """`Error` of `package.Error: what happened`."""
    return text.strip().partition("\n")[0].partition(":")[0].rpartition(".")[2] + "\n"


def is_empty(script: str) -> bool:
    """Whether there is no statement in it."""
    try:
        return not ast.parse(script).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # running it will tell
