"""Score answers by the verifiers of reasoning-gym, some of which evaluate what a model wrote.

The text of this module also runs in the sandbox, where reasoning-gym is and this project is not. There a verifier that is about to
compile something is stopped, by Python's audit hook; what it does then happens in a process of that answer alone, so that no answer
can change how the next is judged. Which verifiers evaluate need not be known.
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
"""Data sets whose verifiers compare the answer with a tuple of tuples, which JSON has as lists."""
ELEMENTARY = {"sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "ln", "sqrt", "Abs"}
"""What an answer that is evaluated may call. By `integrate` and `expand` its verifier would solve the task, and `Integral` is the question."""
PLAIN = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant, ast.Name, ast.Load,
    ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Call,
)  # fmt: skip
"""What an answer that is evaluated may consist of. A comprehension could give `integrate` the name `sin`."""
MOST_SCORE = 64  # characters
WARM = 4  # items
watch = {"on": False, "stopped": False}
within_reach = set[str]()
"""The variables of the verifier that was stopped: one may hold the solution, and `eval` would read it by its name."""


class Evaluated(BaseException):
    """Raised where a verifier is about to compile something."""


@cache
def verifier(task: str, config: str) -> Any:
    """Return the data set `task` with these settings (JSON), by which it judges; some read word lists from disk when they are made."""
    from reasoning_gym.factory import create_dataset

    return create_dataset(task, **{"size": WARM, "seed": 0, **json.loads(config or "{}")})


def score(task: str, config: str, entry: str, answer: str) -> float:
    """Return the verifier's score of an answer, 1 if it is right, by whatever the verifier does in this process."""
    fields, judge = json.loads(entry), verifier(task, config)
    if task in GRIDS:
        fields["metadata"]["output"] = tuple(map(tuple, fields["metadata"]["output"]))
    try:
        return float(judge.score_answer(answer.strip(), fields))
    except Exception:  # verifiers parse what a model wrote, and many raise errors of any kind at another form
        return 0.0


def load(task: str, config: str) -> None:
    """Make a verifier ready: it judges answers of its own generator's, so that what it imports late is imported, and what sympy keeps is
    there for every answer that is judged apart."""
    data = verifier(task, config)
    with contextlib.suppress(Exception):  # of a generator, of which judging has no need
        items = [data[number] for number in range(WARM)]
        for item, other in zip(items, (*items[1:], *items[:1]), strict=True):
            for answer in filter(None, (item["answer"], other["answer"])):
                score(task, config, json.dumps(item, default=str), str(answer))
    gc.collect()
    gc.freeze()


def judged(task: str, config: str, entry: str, answer: str, isolated: bool) -> float | None:
    """Return the score of an answer that a model wrote; None if the verifier would evaluate it and nothing isolates this process."""
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
    """Return True if an answer that is evaluated can call nothing but elementary functions, and names none of the verifier's `variables`.

    Strings too are held to it, since sympy evaluates one where it takes an expression; `%` would write a bracket into it.
    """
    try:  # sympy takes 5! for a factorial
        nodes = list(ast.walk(ast.parse(answer.strip().replace("!", ""), mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return not any(mark in answer for mark in "('\"")  # sympy reads more, and needs one of these for a call
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
    """Return the score by a process of its own, which starts no other and has nothing open but a pipe to this one."""
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
    """Stop the verifier that is watched before it compiles a text; a module that it imports is a file's."""
    if watch["on"] and event == "compile" and not str(arguments[1]).endswith(".py"):
        watch["stopped"] = True
        within_reach.update(sys._getframe(1).f_locals)
        raise Evaluated


if __name__ == "solution":  # the name of a program in the sandbox
    sys.addaudithook(stop)
