"""Serialise values of expressions: encoded inside the sandbox, decoded outside and compared there.

A value arrives as plain builtin objects, without any method that the program defined. Any other object arrives as a `Thing`,
which equals nothing. So an object with an `__eq__` of its own cannot pass a comparison.
"""

import contextlib
import json
from collections.abc import Callable, ItemsView, Iterator, KeysView
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import chain, repeat
from typing import Any

# Larger values are encoded as things. A set or a dict of numbers with equal hashes takes quadratic time to build.
MOST_TEXT = 1_000_000  # characters
MOST_ITEMS = 100_000  # of a list or a tuple
MOST_KEYS = 1_000  # of a set or a dict
MOST_DIGITS = 1_000  # of a decimal number
MOST_DEPTH = 200  # of nested values: decoding nests several calls for each, and Python allows about 1,000
MOST_PARTS = 1_000_000  # of a value that `is_builtin` examines
END: Any = object()
ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray)
COLLECTIONS: tuple[type, ...] = (list, tuple, set, frozenset, type({}.keys()))
ITEMS_VIEW: Any = type({}.items())


@dataclass(frozen=True, eq=False)
class Thing:
    """Stands for an object that cannot leave the sandbox. Only its truth value and its class are known."""

    kind: str
    truth: bool
    builtin: bool
    """True if it and its contents are of builtin types. It is then too large or too deep, and no method of the program compares it."""

    def __bool__(self) -> bool:
        return self.truth

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def encode(value: object) -> str:
    """Return the value as text."""
    with contextlib.suppress(RecursionError, MemoryError):
        form = plain(value)
        is_plain = type(form) is not list or form[0] != "thing"
        if is_plain and len(text := json.dumps(form)) <= MOST_TEXT:
            return text
    return json.dumps(thing(value, is_builtin(value)))


def plain(value: object, depth: int = 0) -> Any:
    """Return the value in JSON types: itself, or a list of its kind and its parts.

    A value of a subclass is encoded as its builtin base. A set or a dict whose keys would then have no hash is encoded as a thing.
    `depth` is the number of values that contain this one. Raises RecursionError beyond `MOST_DEPTH`.
    """
    if depth > MOST_DEPTH:
        raise RecursionError
    match value:
        case None | bool() | str():
            return value
        case int():
            return ["int", hex(value)]  # no limit on digits
        case float():
            return ["float", value.hex()]
        case complex():
            return ["complex", value.real.hex(), value.imag.hex()]
        case bytes() | bytearray():
            return ["bytes", value.hex()]
        case list() | tuple() if len(value) <= MOST_ITEMS:
            return ["list" if isinstance(value, list) else "tuple", *map(plain, value, repeat(depth + 1))]
        case set() | frozenset() | KeysView() | ItemsView() if len(value) <= MOST_KEYS:
            parts = [*map(plain, value, repeat(depth + 1))]
            if all(map(has_hash, parts)):
                return ["frozenset" if isinstance(value, frozenset) else "set", *parts]
        case dict() if len(value) <= MOST_KEYS:
            entries = [[plain(key, depth + 1), plain(entry, depth + 1)] for key, entry in value.items()]
            if all(has_hash(key) for key, _ in entries):
                return ["dict", *entries]
        case Fraction() | Decimal():
            return ratio(value)
    return thing(value)


def has_hash(form: Any) -> bool:
    """Return True if the value that is decoded from `form` can be in a set."""
    if type(form) is not list or form[0] not in ("list", "tuple", "set", "dict"):
        return True
    return form[0] == "tuple" and all(map(has_hash, form[1:]))


def ratio(number: Fraction | Decimal) -> Any:
    """Encode a number exactly, so that one tenth differs from the float 0.1.

    A decimal number that is not finite or has a very large or small exponent is encoded as the nearest float.
    """
    small = isinstance(number, Fraction) or (number.is_finite() and abs(number.adjusted()) <= MOST_DIGITS)
    if not small:
        return plain(float(number))
    return ["ratio", *map(hex, number.as_integer_ratio())]


def thing(value: object, builtin: bool = False) -> list[Any]:
    """Encode a value that is not plain: the name of its class, its truth value, and whether it is known to consist of builtin types only."""
    return ["thing", type(value).__name__[:100], bool(value), builtin]


def is_builtin(value: object) -> bool:
    """Return True if a value and all its contents have a builtin type of `ATOMS`, `dict` and the collections above, not a subclass.

    Return False for a value of more than `MOST_PARTS` parts.
    """
    parts: list[Iterator[Any]] = [iter([value])]
    seen = set[int]()  # a value may hold itself
    for _ in range(MOST_PARTS):
        while parts and (part := next(parts[-1], END)) is END:
            parts.pop()
        if not parts:
            return True
        if type(part) in ATOMS or id(part) in seen:
            continue
        seen.add(id(part))
        if type(part) is dict:
            parts += [iter(part), iter(part.values())]
        elif type(part) is ITEMS_VIEW:  # its pairs are temporary, and a later one may have the id of an earlier one
            parts.append(chain.from_iterable(part))
        elif type(part) in COLLECTIONS:
            parts.append(iter(part))
        else:
            return False
    return False


def decode(text: str) -> Any:
    """Return the value that `encode` wrote. The text is not trusted: raises ValueError if `encode` cannot have written it."""
    try:
        return decode_plain(json.loads(text[: MOST_TEXT + 1]))
    except (TypeError, IndexError, KeyError, AttributeError, RecursionError, ArithmeticError) as error:
        raise ValueError(f"no value: {text[:100]!r}") from error


def decode_plain(form: Any) -> Any:
    """Return the value that `plain` encoded."""
    if form is None or isinstance(form, bool | str):
        return form
    kind, *parts = form
    if kind in ("set", "frozenset", "dict") and len(parts) > MOST_KEYS:
        raise ValueError("more keys than are sent")
    return BUILD[kind](*parts)


BUILD: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "ratio": lambda above, below: Fraction(int(above, 16), int(below, 16)),
    "complex": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "bytes": bytes.fromhex,
    "list": lambda *parts: list(map(decode_plain, parts)),
    "tuple": lambda *parts: tuple(map(decode_plain, parts)),
    "set": lambda *parts: set(map(decode_plain, parts)),
    "frozenset": lambda *parts: frozenset(map(decode_plain, parts)),
    "dict": lambda *parts: {decode_plain(key): decode_plain(entry) for key, entry in parts},
    "thing": lambda kind, truth, builtin: Thing(str(kind), truth is True, builtin is True),
}
