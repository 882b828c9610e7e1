"""Synthetic functions whose prompt decides one operator, bound or constant each: what a small model can learn from nothing.

`examples(count, seed)` makes them; every program has tests, whose expectations come from running it.
"""

import random
from dataclasses import dataclass

from tasks.core.records import Example, Message, Tests, content_id

CONDITIONS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "==": "equal to", "!=": "other than"}
FOLDS = {
    "sum": ("0", "out = out + {}"),
    "product": ("1", "out = out * {}"),
    "list": ("[]", "out = out + [{}]"),
    "difference": ("0", "out = out - {}"),
}
CASES = 6


@dataclass(frozen=True)
class Function:
    """One of them."""

    fold: str
    sign: str
    constant: int
    cut: str
    condition: str

    @property
    def prompt(self) -> str:
        """What is asked for."""
        each = {"+": "plus", "-": "minus", "*": "times"}[self.sign]
        return f"f(xs, n): the {self.fold} of x {each} {self.constant} for x of xs{self.cut} {CONDITIONS[self.condition]} n"

    @property
    def code(self) -> str:
        """The program that does it."""
        start, step = FOLDS[self.fold]
        body = step.format(f"(x {self.sign} {self.constant})")
        return (
            f"def f(xs, n):\n    out = {start}\n    for x in xs{self.cut}:\n"
            f"        if x {self.condition} n:\n            {body}\n    return out"
        )


def examples(count: int, seed: int) -> list[Example]:
    """`count` different functions, all the same for the same seed, the first ones the same for every count."""
    draw = random.Random(seed)
    everything = [
        Function(fold, sign, constant, cut, condition)
        for fold in FOLDS
        for sign in "+-*"
        for constant in range(1, 10)
        for cut in ("", *(f"[{n}:]" for n in range(1, 5)), *(f"[:-{n}]" for n in range(1, 5)))
        for condition in CONDITIONS
    ]
    draw.shuffle(everything)
    return [_example(function) for function in everything[:count]]


def _example(function: Function) -> Example:
    prompt = function.prompt
    messages = [Message("user", prompt), Message("assistant", f"```python\n{function.code}\n```")]
    return Example(
        content_id(prompt), messages, "function", "synthetic", prompt, "train", "benchmarks/functions.py", "Apache-2.0",
        Tests("doctest", _doctests(function), "f"),
    )  # fmt: skip


def _doctests(function: Function) -> str:
    """Calls that tell neighbouring conditions, constants and cuts apart, with what the program gives."""
    draw, names = random.Random(function.prompt), {}
    exec(function.code, names)  # our own text
    lines = []
    for _ in range(CASES):
        xs = [draw.randint(-9, 9) for _ in range(draw.randint(6, 9))]
        n = draw.choice(xs)
        lines.append(f">>> f({xs}, {n})\n{names['f'](xs, n)}\n")
    return "".join(lines)
