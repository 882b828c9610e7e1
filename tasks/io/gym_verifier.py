"""Score answers with the verifiers of reasoning-gym, some of which evaluate model-written text.

The source of this module also runs in the sandbox, which has reasoning-gym but not this project. There, Python's audit hook stops a verifier that is
about to compile something. The verifier then runs again in a separate process for that answer, so that no answer can change how the next one is
judged. This works without knowing which verifiers evaluate text.
"""

import ast
import contextlib
import gc
import json
import os
import resource
import sys
from collections.abc import Set
from functools import cache
from typing import Any

GRIDS = ("arc_agi", "rearc")
"""Data sets whose verifiers compare the answer with a tuple of tuples, which JSON stores as lists."""
ELEMENTARY = {"sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "ln", "sqrt", "Abs"}
"""Functions that an evaluated answer may call. With `integrate` and `expand`, the verifier would solve the task itself, and `Integral` is the question."""
PLAIN = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant, ast.Name, ast.Load,
    ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call,
)  # fmt: skip
"""Syntax nodes that an evaluated answer may contain. A comprehension could bind `integrate` to the name `sin`."""
MOST_SCORE = 64  # characters
WARM = 4  # items
watch = {"on": False, "stopped": False}
within_reach = set[str]()
"""The variables of the stopped verifier. One of them may hold the solution, which `eval` would read by its name."""


class Evaluated(BaseException):
    """Raised if a verifier is about to compile something."""


@cache
def verifier(task: str, config: str) -> Any:
    """Return the data set `task` with these settings (JSON), for judging. Some data sets read word lists from disk when they are created."""
    from reasoning_gym.factory import create_dataset

    return create_dataset(task, **{"size": WARM, "seed": 0, **json.loads(config or "{}")})


def score(task: str, config: str, entry: str, answer: str) -> float:
    """Return the verifier's score of an answer, 1 if it is right, with the verifier unrestricted in this process."""
    fields, judge = json.loads(entry), verifier(task, config)
    if task in GRIDS:
        fields["metadata"]["output"] = tuple(map(tuple, fields["metadata"]["output"]))
    try:
        return float(judge.score_answer(answer.strip(), fields))
    except Exception:  # verifiers parse model-written text, and many raise errors of any kind if its form is unexpected
        return 0.0


def load(task: str, config: str) -> None:
    """Prepare a verifier by judging answers of its own generator. Then its late imports are done, and sympy's caches exist for every answer that
    is judged in a separate process."""
    data = verifier(task, config)
    with contextlib.suppress(Exception):  # a module that only the generator needs
        items = [data[number] for number in range(WARM)]
        for item, other in zip(items, (*items[1:], *items[:1]), strict=True):
            for answer in filter(None, (item["answer"], other["answer"])):
                score(task, config, json.dumps(item, default=str), str(answer))
    gc.collect()
    gc.freeze()


def judged(task: str, config: str, entry: str, answer: str, isolated: bool) -> float | None:
    """Return the score of a model-written answer; None if the verifier would evaluate it and this process is not isolated."""
    watch.update(on=True, stopped=False)
    within_reach.clear()
    try:
        value = score(task, config, entry, answer)
    except Evaluated:
        value = 0.0
    finally:
        watch["on"] = False
    if not watch["stopped"]:
        return value
    if not is_plain(answer, within_reach):
        return 0.0
    return score_apart(task, config, entry, answer) if isolated else None


def is_plain(answer: str, variables: Set[str] = frozenset()) -> bool:
    """Return True if an evaluated answer can only call elementary functions, and names none of the verifier's `variables`.

    The same holds for strings in it, because sympy evaluates a string in place of an expression. `%` could insert a bracket into one.
    """
    try:  # sympy reads 5! as a factorial
        nodes = list(ast.walk(ast.parse(answer.strip().replace("!", ""), mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return not any(
            mark in answer for mark in "('\""
        )  # sympy accepts more syntax, but needs one of these for a call
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)]
    return (
        all(isinstance(node, PLAIN) for node in nodes)
        and names.isdisjoint(variables)
        and all(isinstance(called, ast.Name) and called.id in ELEMENTARY for called in calls)
        and not any(mark in str(text) for text in texts for mark in "(%")
    )


def score_apart(*arguments: str) -> float:
    """Return the score from a separate process, which can start no other and has only a pipe to this one open."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.closerange(3, writer)
            os.closerange(writer + 1, writer + 64)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            os.write(writer, repr(score(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read(MOST_SCORE)
    os.waitpid(child, 0)
    try:
        return float(told)
    except ValueError:
        return 0.0


def stop(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop the watched verifier before it compiles a text. The import of a module, which compiles a file, is allowed."""
    if watch["on"] and event == "compile" and not str(arguments[1]).endswith(".py"):
        watch["stopped"] = True
        within_reach.update(sys._getframe(1).f_locals)
        raise Evaluated


if __name__ == "solution":  # the file name of a program in the sandbox
    sys.addaudithook(stop)
