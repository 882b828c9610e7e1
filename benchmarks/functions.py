"""Synthetic functions whose operator, bound and constants follow from the prompt, so that a small model can learn them from scratch.

A comment and two names in each program are random, as in real code: most of the loss there is irreducible, and only a small part of
the text decides whether a program is right.
`examples(count, seed)` makes them; every program has tests, whose expected values come from running it.
"""

import random
import string
from dataclasses import dataclass, replace
from typing import Any

from tasks.core.records import Example, Message, Tests, content_id

CONDITIONS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "==": "equal to", "!=": "other than"}
MISTAKES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
CUTS = ("", *(f"[{n}:]" for n in range(1, 5)), *(f"[:-{n}]" for n in range(1, 5)))
NEXT_CUT = dict(zip(CUTS, (*CUTS[1:], CUTS[0]), strict=True))
FOLDS = {
    "sum": ("0", "{out} = {out} + {term}"),
    "product": ("1", "{out} = {out} * {term}"),
    "list": ("[]", "{out} = {out} + [{term}]"),
    "difference": ("0", "{out} = {out} - {term}"),
}
CASES = 6
VOCABULARY = 384
WORDS = 5


@dataclass(frozen=True)
class Function:
    """One synthetic function."""

    fold: str
    sign: str
    constant: int
    cut: str
    condition: str

    def mistaken(self, draw: random.Random) -> "Function":
        """Return the function with mistakes: each part is wrong with probability 0.5, always in the same way."""
        habits = {
            "condition": MISTAKES[self.condition],
            "cut": NEXT_CUT[self.cut],
            "constant": self.constant % 9 + 1,
            "sign": {"+": "-", "-": "+", "*": "+"}[self.sign],
        }
        return replace(self, **{name: value for name, value in habits.items() if draw.random() < 0.5})

    @property
    def prompt(self) -> str:
        """Return the prompt."""
        each = {"+": "plus", "-": "minus", "*": "times"}[self.sign]
        return f"f(xs, n): the {self.fold} of x {each} {self.constant} for x of xs{self.cut} {CONDITIONS[self.condition]} n"

    def code(self, text: str) -> str:
        """Return the program. Its random words are drawn with `text` as seed."""
        start, step = FOLDS[self.fold]
        draw = random.Random(text)
        out, x, *remark = (word(draw) for _ in range(WORDS))
        body = step.format(out=out, term=f"({x} {self.sign} {self.constant})")
        return (
            f"def f(xs, n):\n    # {' '.join(remark)}\n    {out} = {start}\n    for {x} in xs{self.cut}:\n"
            f"        if {x} {self.condition} n:\n            {body}\n    return {out}"
        )


def word(draw: random.Random) -> str:
    """Return a random word of three letters that ends in q, which no keyword of Python does."""
    return "".join(draw.choices(string.ascii_lowercase, k=2)) + "q"


def examples(count: int, seed: int) -> list[Example]:
    """Return `count` different functions; equal seeds give equal functions, and a larger count appends to them."""
    return [_example(function, function.code(function.prompt)) for function in _functions(count, seed)]


def mistaken(count: int, seed: int) -> list[Example]:
    """Return the same prompts, answered with mistakes."""
    draw = random.Random(seed)
    return [_example(function, function.mistaken(draw).code(function.prompt)) for function in _functions(count, seed)]


def _functions(count: int, seed: int) -> list[Function]:
    draw = random.Random(seed)
    combinations = [
        Function(fold, sign, constant, cut, condition)
        for fold in FOLDS
        for sign in "+-*"
        for constant in range(1, 10)
        for cut in CUTS
        for condition in CONDITIONS
    ]
    draw.shuffle(combinations)
    return combinations[:count]


def tokenizer(rows: list[Example]) -> Any:
    """Train a tokenizer on these texts: digits, signs and keywords are one token each, random words are several."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from tasks.stages.fetch.random_init import CHAT_TEMPLATE, SPECIAL

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((message.content for row in rows for message in row.messages), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=SPECIAL[2], pad_token=SPECIAL[0])
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _example(function: Function, code: str) -> Example:
    prompt = function.prompt
    messages = [Message("user", prompt), Message("assistant", f"```python\n{code}\n```")]
    return Example(
        content_id(prompt), messages, "function", "synthetic", prompt, "train", "benchmarks/functions.py", "Apache-2.0",
        Tests("doctest", _doctests(function), "f"),
    )  # fmt: skip


def _doctests(function: Function) -> str:
    """Return doctests that distinguish neighbouring conditions, constants and cuts, with the program's results."""
    draw, names = random.Random(function.prompt), {}
    exec(function.code(function.prompt), names)  # our own text
    lines = []
    for _ in range(CASES):
        xs = [draw.randint(-9, 9) for _ in range(draw.randint(6, 9))]
        n = draw.choice(xs)
        lines.append(f">>> f({xs}, {n})\n{names['f'](xs, n)}\n")
    return "".join(lines)
