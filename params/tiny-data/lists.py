"""Cutting and joining lists."""


def chunks(items, size):
    """The items in lists of `size`; the last may be shorter.

    >>> chunks([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    """
    return [items[start : start + size] for start in range(0, len(items), size)]


def flatten(lists):
    """The items of all lists in one.

    >>> flatten([[1], [2, 3], []])
    [1, 2, 3]
    """
    return [item for part in lists for item in part]


def unique(items):
    """Each item once, in the order in which they first come.

    >>> unique([3, 1, 3, 2, 1])
    [3, 1, 2]
    """
    return list(dict.fromkeys(items))


def without(items, *unwanted):
    """The items that are not among the unwanted ones.

    >>> without([1, 2, 3, 2], 2, 3)
    [1]
    """
    return [item for item in items if item not in unwanted]
