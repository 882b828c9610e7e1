"""Dictionaries in, dictionaries out."""


def invert(mapping):
    """Values as keys and keys as values.

    >>> invert({"a": 1, "b": 2})
    {1: 'a', 2: 'b'}
    """
    return {value: key for key, value in mapping.items()}


def pick(mapping, *keys):
    """The entries with these keys, where they exist.

    >>> pick({"a": 1, "b": 2}, "b", "c")
    {'b': 2}
    """
    return {key: mapping[key] for key in keys if key in mapping}


def group_by(key, items):
    """The items in lists, by what `key` says of each.

    >>> group_by(len, ["a", "bb", "c"])
    {1: ['a', 'c'], 2: ['bb']}
    """
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def merge(*mappings):
    """One dictionary of all; later ones win.

    >>> merge({"a": 1}, {"a": 2, "b": 3})
    {'a': 2, 'b': 3}
    """
    merged = {}
    for mapping in mappings:
        merged.update(mapping)
    return merged
