"""Lists of rows."""


def transpose(rows):
    """The columns of a grid as rows.

    >>> transpose([[1, 2], [3, 4], [5, 6]])
    [[1, 3, 5], [2, 4, 6]]
    """
    return [list(column) for column in zip(*rows, strict=True)]


def rotate(rows):
    """The grid turned clockwise by a quarter.

    >>> rotate([[1, 2], [3, 4]])
    [[3, 1], [4, 2]]
    """
    return [list(column) for column in zip(*reversed(rows), strict=True)]


def border(rows):
    """The cells at the rim of a grid, row by row.

    >>> border([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    [1, 2, 3, 4, 6, 7, 8, 9]
    """
    last = len(rows) - 1
    return [
        cell for y, row in enumerate(rows) for x, cell in enumerate(row) if y in (0, last) or x in (0, len(row) - 1)
    ]


def diagonal(rows):
    """The cells from the upper left to the lower right.

    >>> diagonal([[1, 2], [3, 4]])
    [1, 4]
    """
    return [row[index] for index, row in enumerate(rows)]
