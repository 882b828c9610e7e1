"""Synthetic functions whose prompt decides their operator, bound and constants: what a small model can learn from nothing.

A remark and two names in each program follow from nothing, as in code that people write: most of what a model loses there can
never be learned, and what decides whether a program is right is a small part of its text.
`examples(count, seed)` makes them; every program has tests, whose expectations come from running it.
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
    """One of them."""

    fold: str
    sign: str
    constant: int
    cut: str
    condition: str

    def mistaken(self, draw: random.Random) -> "Function":
        """The same with mistakes that people make: every other time for each place, always the same one."""
        habits = {
            "condition": MISTAKES[self.condition],
            "cut": NEXT_CUT[self.cut],
            "constant": self.constant % 9 + 1,
            "sign": {"+": "-", "-": "+", "*": "+"}[self.sign],
        }
        return replace(self, **{name: value for name, value in habits.items() if draw.random() < 0.5})

    @property
    def prompt(self) -> str:
        """What is asked for."""
        each = {"+": "plus", "-": "minus", "*": "times"}[self.sign]
        return f"f(xs, n): the {self.fold} of x {each} {self.constant} for x of xs{self.cut} {CONDITIONS[self.condition]} n"

    def code(self, asked: str) -> str:
        """The program that does it. Its words are drawn from what was asked for."""
        start, step = FOLDS[self.fold]
        draw = random.Random(asked)
        out, x, *remark = (word(draw) for _ in range(WORDS))
        body = step.format(out=out, term=f"({x} {self.sign} {self.constant})")
        return (
            f"def f(xs, n):\n    # {' '.join(remark)}\n    {out} = {start}\n    for {x} in xs{self.cut}:\n"
            f"        if {x} {self.condition} n:\n            {body}\n    return {out}"
        )


def word(draw: random.Random) -> str:
    """Letters that follow from nothing; none of Python's own words is that long and that odd."""
    return "".join(draw.choices(string.ascii_lowercase, k=2)) + "q"


def examples(count: int, seed: int) -> list[Example]:
    """`count` different functions, all the same for the same seed, the first ones the same for every count."""
    return [_example(function, function.code(function.prompt)) for function in _functions(count, seed)]


def mistaken(count: int, seed: int) -> list[Example]:
    """The same prompts, answered with the mistakes that people make."""
    draw = random.Random(seed)
    return [_example(function, function.mistaken(draw).code(function.prompt)) for function in _functions(count, seed)]


def _functions(count: int, seed: int) -> list[Function]:
    draw = random.Random(seed)
    everything = [
        Function(fold, sign, constant, cut, condition)
        for fold in FOLDS
        for sign in "+-*"
        for constant in range(1, 10)
        for cut in CUTS
        for condition in CONDITIONS
    ]
    draw.shuffle(everything)
    return everything[:count]


def tokenizer(rows: list[Example]) -> Any:
    """Tokens of these texts: a digit or a sign is one, a word of the language is one, a word that follows from nothing is several."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from tasks.stages.fetch.build import CHAT_TEMPLATE, SPECIAL

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
    """Calls that tell neighbouring conditions, constants and cuts apart, with what the program gives."""
    draw, names = random.Random(function.prompt), {}
    exec(function.code(function.prompt), names)  # our own text
    lines = []
    for _ in range(CASES):
        xs = [draw.randint(-9, 9) for _ in range(draw.randint(6, 9))]
        n = draw.choice(xs)
        lines.append(f">>> f({xs}, {n})\n{names['f'](xs, n)}\n")
    return "".join(lines)
