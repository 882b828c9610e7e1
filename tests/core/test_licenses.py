"""Licence algebra: what base and data leave for a model, conflicts, and what nobody knows."""

import pytest

from tasks.core.licenses import expressions
from tasks.core.licenses.terms import combine


def terms(*names, wanted=None):
    return combine({name: [f"data {n}"] for n, name in enumerate(names)}, wanted)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (["MIT", "Apache-2.0", "CC0-1.0"], ()),
        (["MIT", "CC-BY-SA-4.0"], ("CC-BY-SA-4.0", "GPL-3.0-only", "GPL-3.0-or-later")),
        (["CC-BY-SA-4.0", "GPL-3.0-or-later"], ("GPL-3.0-only", "GPL-3.0-or-later")),
        (["CC-BY-SA-3.0", "GPL-3.0-only"], ("GPL-3.0-only",)),  # in two steps
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"], ("CC-BY-NC-SA-4.0",)),
        (["MPL-2.0", "GPL-3.0-only"], ("GPL-3.0-only",)),
        (["GPL-2.0-only OR MIT", "Apache-2.0"], ()),
        (["GPL-2.0-only AND MIT"], ("GPL-2.0-only",)),
        (
            ["GPL-2.0-or-later WITH Classpath-exception-2.0", "Apache-2.0"],
            ("GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later"),
        ),
        (["llama3.1", "MIT License"], ("LicenseRef-scancode-llama-3.1-license-2024",)),
    ],
)
def test_the_licences_that_are_left(names, allowed):
    result = terms(*names)
    assert (result.licenses, result.conflict) == (allowed, "")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["GPL-2.0-only", "GPL-3.0-only"], "GPL-2.0-only (data 0) and GPL-3.0-only (data 1) exclude each other"),
        (["Apache-2.0", "GPL-2.0-only", "MIT"], "Apache-2.0 (data 0) and GPL-2.0-only (data 1) exclude each other"),
        (["llama3.1", "CC-BY-SA-4.0"], "CC-BY-SA-4.0 (data 1) and llama3.1 (data 0) exclude each other"),
        (["CC-BY-ND-4.0", "MIT"], "CC-BY-ND-4.0 (data 0) allows no derived model"),
        (["CC-BY-NC-4.0", "GPL-3.0-only"], "CC-BY-NC-4.0 (data 0) and GPL-3.0-only (data 1) exclude each other"),
    ],
)
def test_a_conflict_names_what_excludes_each_other(names, reason):
    result = terms(*names)
    assert (result.conflict, result.licenses, result.sentence) == (reason, (), reason)


def test_the_licence_that_a_model_shall_have_is_held_against_all():
    assert terms("MIT", "BSD-3-Clause", wanted="Apache-2.0").licenses == ("Apache-2.0",)
    assert (
        terms("MIT", "CC-BY-SA-4.0", wanted="MIT").conflict == "the licence MIT is not allowed by CC-BY-SA-4.0 (data 1)"
    )
    assert terms("CC-BY-SA-4.0", wanted="GPL-3.0-only").conflict == ""
    assert terms("GPL-3.0-only", "CC-BY-NC-4.0", wanted="gpl-3.0-only").conflict == (
        "the licence gpl-3.0-only is not allowed by CC-BY-NC-4.0 (data 1)"
    )
    assert terms("GPL-2.0-only", "MIT", "EPL-2.0", wanted="GPL-2.0-only OR EPL-2.0").conflict == (
        "the licence GPL-2.0-only OR EPL-2.0 is not allowed by EPL-2.0 (data 2), GPL-2.0-only (data 0)"
    )
    with pytest.raises(ValueError, match="asks for several licences at once"):
        terms("GPL-3.0-only", "MIT", wanted="MIT AND GPL-3.0-only")
    with pytest.raises(ValueError, match=r"'Apache 9' is not a known SPDX licence"):
        terms("MIT", wanted="Apache 9")


def test_notices_are_those_of_the_licences_that_were_chosen():
    assert terms("MIT OR GPL-3.0-only", "CC0-1.0", "ISC").notices == ("ISC", "MIT")


def test_what_nobody_knows_is_told_with_what_has_it_and_binds_nothing():
    result = combine({"unknown": ["b.jsonl", "a.jsonl"], "House rules 3": ["c.jsonl"], "(MIT": ["d"], "MIT": ["e"]})
    assert result.unknown == {"unknown": ("a.jsonl", "b.jsonl"), "House rules 3": ("c.jsonl",), "(MIT": ("d",)}
    assert result.sentence == "any licence, with the notices of MIT"


def test_names_of_indexes_and_hubs_are_spelt_as_spdx_does():
    assert expressions.canonical("apache-2.0") == "Apache-2.0"
    assert expressions.canonical("MIT License") == "MIT"
    assert expressions.canonical("odc-by") == "ODC-By-1.0"
    assert expressions.canonical("CC BY-SA 4.0") == "CC-BY-SA-4.0"
    assert expressions.is_met("The MIT License", frozenset(["MIT"]))
    assert all(expressions.is_known(name) for name in expressions.ALIASES.values())
    assert expressions.canonical("GPL-2.0 or mit") == "GPL-2.0-only OR MIT"
    with pytest.raises(ValueError, match="not an SPDX expression"):
        expressions.canonical("House rules 3")


def test_an_expression_that_would_explode_is_not_known():
    assert not expressions.is_known(
        " AND ".join(f"(MIT OR {name})" for name in ("ISC", "Zlib", "0BSD", "PSF-2.0", "NCSA", "X11", "HPND"))
    )
