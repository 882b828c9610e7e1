"""Values on a scale."""


def clamp(value, low, high):
    """The value, moved to the nearer end where it lies outside.

    >>> clamp(12, 0, 10)
    10
    >>> clamp(-1, 0, 10)
    0
    """
    return max(low, min(value, high))


def mean(values):
    """The sum of the values over their number.

    >>> mean([1, 2, 6])
    3.0
    """
    return sum(values) / len(values)


def normalise(values):
    """The values as parts of their sum.

    >>> normalise([1, 1, 2])
    [0.25, 0.25, 0.5]
    """
    total = sum(values)
    return [value / total for value in values]


def running_total(values):
    """The sum of the values so far, at each of them.

    >>> running_total([1, 2, 3])
    [1, 3, 6]
    """
    total, totals = 0, []
    for value in values:
        total += value
        totals.append(total)
    return totals
