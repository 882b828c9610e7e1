"""Counting things in sequences."""


def count_vowels(text):
    """The number of vowels in a text, capital ones included.

    >>> count_vowels("Open the door")
    5
    >>> count_vowels("rhythm")
    0
    """
    return sum(letter in "aeiou" for letter in text.lower())


def most_common(items):
    """The item that occurs most often; of several, the one that comes first.

    >>> most_common(["pear", "plum", "plum"])
    'plum'
    >>> most_common([3, 1, 3, 1])
    3
    """
    return max(items, key=items.count)


def tally(items):
    """How often each item occurs.

    >>> tally("abca")
    {'a': 2, 'b': 1, 'c': 1}
    """
    counts = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts


def count_where(condition, items):
    """The number of items for which the condition holds.

    >>> count_where(str.isupper, "aBcD")
    2
    """
    return sum(1 for item in items if condition(item))
