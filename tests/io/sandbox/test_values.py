"""A value is decoded outside the sandbox as it was encoded inside, or arrives as a thing."""

from functools import reduce

import pytest

from tasks.io.sandbox.guest.values import MOST_DEPTH, Thing, decode, encode


class Keys(list):
    """A list that can be a key, which a plain list cannot."""

    __hash__ = object.__hash__


def nested(depth, wrap):
    return reduce(lambda inner, _: wrap(inner), range(depth), 1)


WRAPS = [lambda inner: [inner], lambda inner: (inner,), lambda inner: frozenset({inner}), lambda inner: {1: inner}]


@pytest.mark.parametrize(
    "value",
    [
        {frozenset({1}), frozenset()},
        {frozenset({1}): {2}, (1, frozenset({2})): [3]},
        {"a": 1}.keys(),
        {"a": (1, frozenset({2}))}.items(),
        *(nested(MOST_DEPTH, wrap) for wrap in WRAPS),
    ],
)
def test_what_is_encoded_is_decoded(value):
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1]}.items(),
        {Keys()},
        {(1, Keys()): 1},
        *(nested(depth, wrap) for depth in (MOST_DEPTH + 1, 700, 900) for wrap in WRAPS),
    ],
)
def test_what_would_have_no_hash_or_lies_too_deep_is_a_thing(value):
    assert isinstance(decode(encode(value)), Thing)


def test_a_part_that_is_no_key_does_not_make_a_thing_of_what_it_is_in():
    ((first, second),) = decode(encode([(1, {Keys()})]))
    assert (first, repr(second)) == (1, "<set>")
