"""Finding places in sequences."""


def index_of(item, items):
    """Where an item stands first, or -1.

    >>> index_of("c", "abc")
    2
    >>> index_of("x", "abc")
    -1
    """
    for index, other in enumerate(items):
        if other == item:
            return index
    return -1


def bisect(items, value):
    """How many of the sorted items are below a value.

    >>> bisect([1, 3, 5, 7], 5)
    2
    """
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        if items[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


def peaks(values):
    """The positions of values above both neighbours.

    >>> peaks([1, 3, 2, 4, 1])
    [1, 3]
    """
    return [here for here in range(1, len(values) - 1) if values[here - 1] < values[here] > values[here + 1]]


def longest(words):
    """The longest of some words; of several, the first.

    >>> longest(["oak", "birch", "maple"])
    'birch'
    """
    return max(words, key=len)
