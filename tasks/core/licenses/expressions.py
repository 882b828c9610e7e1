"""SPDX licence expressions: the sets of licences that satisfy one, and the category of each licence.

`license-expression` reads the expressions (annex "SPDX license expressions" of SPDX 3.0). Its list of licences, ScanCode's LicenseDB, has the
categories.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

UNKNOWN = "unknown"
MOST_ALTERNATIVES = 64
"""Largest number in one expression. A longer expression is not read."""
ALIASES: Mapping[str, str] = {
    # Names in the metadata of packages: https://peps.python.org/pep-0639/appendix-mapping-classifiers/
    "apache software license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd license": "BSD-3-Clause",  # it names no variant; those that are in use ask the same
    "bsd": "BSD-3-Clause",  # it names no variant; those that are in use ask the same
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    # Names that people write
    "apache 2": "Apache-2.0",
    "apache2": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "cc by 3.0": "CC-BY-3.0",
    "cc by 4.0": "CC-BY-4.0",
    "cc by-nc 4.0": "CC-BY-NC-4.0",
    "cc by-nc-sa 4.0": "CC-BY-NC-SA-4.0",
    "cc by-sa 3.0": "CC-BY-SA-3.0",
    "cc by-sa 4.0": "CC-BY-SA-4.0",
    "cc0": "CC0-1.0",
    "cc0 1.0": "CC0-1.0",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "lgplv3": "LGPL-3.0-only",
    "the mit license": "MIT",
    # Names of the Hugging Face hub: https://huggingface.co/docs/hub/repositories-licenses
    # `llama3` and `openrail` have no name in LicenseDB.
    "bigcode-openrail-m": "LicenseRef-scancode-bigcode-open-rail-m-v1",
    "bigscience-bloom-rail-1.0": "LicenseRef-scancode-bigscience-rail-1.0",
    "bigscience-openrail-m": "LicenseRef-scancode-bigscience-open-rail-m",
    "c-uda": "C-UDA-1.0",
    "gemma": "LicenseRef-scancode-gemma-tou-2024-04-01",
    "lgpl-lr": "LGPLLR",
    "llama2": "LicenseRef-scancode-llama-2-license-2023",
    "llama3.1": "LicenseRef-scancode-llama-3.1-license-2024",
    "llama3.2": "LicenseRef-scancode-llama-3.2-license-2024",
    "llama3.3": "LicenseRef-scancode-llama-3.3-license-2024",
    "llama4": "LicenseRef-scancode-llama-4-license-2025",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "openmdw": "LicenseRef-scancode-openmdw-1.0",
    "pddl": "PDDL-1.0",
}

Alternatives = list[frozenset[str]]
"""The sets of licences of which each satisfies an expression: {A} and {B, C} for `A OR B AND C`."""


def is_known(expression: str) -> bool:
    """Return True if an expression names only known licences."""
    return bool(alternatives(expression))


def canonical(expression: str) -> str:
    """Return an expression of known licences in SPDX form. Raises ValueError for any other."""
    if (parsed := _parsed(expression)) is None:
        raise ValueError(f"{expression!r} is not an SPDX expression of known licences.")
    return str(parsed.render())


@cache
def alternatives(expression: str) -> Alternatives:
    """Return the sets of licences of which each satisfies an expression, by SPDX names; none if it names an unknown licence."""
    parsed = _parsed(expression)
    return [] if parsed is None else _alternatives(parsed)


@cache
def category(name: str) -> str:
    """Return the category of a known licence: `Permissive`, `Copyleft`, …"""
    return _categories()[name]


@cache
def is_met(expression: str, allowed: frozenset[str]) -> bool:
    """Return True if the allowed licences satisfy an expression: one side of OR, both sides of AND, with brackets respected.

    Names that SPDX does not know are compared as text, ignoring case.
    """
    if expression.strip().lower() in {name.strip().lower() for name in allowed}:
        return True
    if "/" in expression or (tree := _tree(expression)) is None:  # `MIT/X11` is a name, not an expression
        return False
    names = {name.lower() for text in allowed for name in _single(text)}
    return any({name.lower() for name in option} <= names for option in _alternatives(tree))


def _single(text: str) -> frozenset[str]:
    """Return the licence that a text names; none for an expression of several licences, which allows only all of them together."""
    options = [] if (tree := _tree(text)) is None else _alternatives(tree)
    return options[0] if len(options) == 1 and len(options[0]) == 1 else frozenset()


def _parsed(expression: str) -> Any:
    """Return the syntax tree of an expression; None if it is invalid or names an unknown licence."""
    parsed = _tree(expression)
    is_known = parsed is not None and all(
        symbol.key in _categories() for symbol in _licensing().license_symbols(parsed)
    )
    return parsed if is_known else None


def _tree(expression: str) -> Any:
    """Return the syntax tree of an expression with known or unknown names; None if it is invalid."""
    from license_expression import ExpressionError

    try:
        return _licensing().parse(ALIASES.get(expression.strip().lower(), expression))
    except ExpressionError:
        return None


def _alternatives(node: Any) -> Alternatives:
    if not (parts := getattr(node, "args", ())):
        return [frozenset([getattr(node, "license_symbol", node).key])]  # an exception only grants further rights
    sides = [_alternatives(part) for part in parts]
    if isinstance(node, _licensing().OR):
        return [option for side in sides for option in side]
    product: Alternatives = [frozenset()]
    for side in sides:
        product = [before | option for before in product for option in side]
        if len(product) > MOST_ALTERNATIVES:
            return []
    return product


@cache
def _licensing() -> Any:
    """Return the parser of expressions, whose construction takes a tenth of a second."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@cache
def _categories() -> dict[str, str]:
    """Return the category of each licence by its SPDX name."""
    from license_expression import get_license_index

    return {
        entry["spdx_license_key"]: entry["category"]
        for entry in get_license_index()
        if entry["spdx_license_key"] and not entry["is_deprecated"]
    }
