"""Find the header of a table: below rows of titles, which spreadsheets and exports of office programs have, or none at all."""

import re
from collections.abc import Sequence

MOST = 20
"""Largest number of rows of titles above a header."""
LONGEST = 40
"""Largest number of characters of a column's name."""
EXAMINED = 200
"""Number of rows from which the used columns are determined."""
MOST_WORDS = 3
"""Largest number of words of a column's name, where a longer text may be a record."""
ALIKE = 0.8
"""Smallest share of the texts of a column that end with the sign of its first text, if that is one of them."""
ENDS = ("?？", ".。", "!！")
"""Signs at the end of sentences, by kind."""
NUMBERED = re.compile(r"column \d+")
"""Matches the name of a column without a name of its own."""
Cells = Sequence[str]


def num_titles(rows: Sequence[Sequence[str | None]]) -> int:
    """Return the number of first rows that are titles above the header; 0 if the first row is the header, or if no row below is clearly one.

    The header has a text in each column that is filled in half of the rows below it. Titles have one or two cells. A first row that lacks only
    one column's name is not a title, nor is one that names all columns except those on the left, which pandas leaves without a name.
    """
    table = [[(field or "").strip() for field in row] for row in rows[:EXAMINED]]
    for place in range(1, min(len(table), MOST + 1)):
        below = [row for row in table[place + 1 :] if any(row)]
        used = [column for column in range(max(map(len, below), default=0)) if _is_used(below, column)]
        if len(used) < 2:
            continue
        if not all(_is_title(row, used, number) for number, row in enumerate(table[:place])):
            return 0
        if _is_header(table[place], below, used, table[:place]):
            return place
    return 0


def is_record(rows: Sequence[Sequence[str | None]]) -> bool:
    """Return True if the first row of a table is a record, because the table has no header; False in case of doubt.

    It is a record if one of its cells resembles its column, and no other is clearly a column's name. A cell resembles its column if it ends with
    the same sign as nearly all texts below it, or if it is one of the labels that are repeated there. It may not be a name if it is a sentence,
    a text of many words, a number or a repeated label, or at least half as long as the texts below it are on average. Questions of a survey are
    sentences too, but the answers below them do not end with question marks.
    """
    table = [[(field or "").strip() for field in row] for row in rows[:EXAMINED]]
    if not table:
        return False
    first, below = (
        table[0],
        [row for row in table[1:] if any(row) and row != table[0]],
    )  # joined files repeat the header
    columns = [(cell, [text for row in below if (text := _cell(row, column))]) for column, cell in enumerate(first)]
    return any(_is_label(*column) or _ends_alike(*column) for column in columns) and all(
        _is_text(cell) or not any(map(str.isalpha, cell)) or _is_label(cell, texts) or _is_as_long(cell, texts)
        for cell, texts in columns
    )


def is_header(rows: Sequence[Sequence[str | None]]) -> bool:
    """Return True if the first row of a table names its columns; False in case of doubt.

    All its cells may be names, and one of them is less than half as long as the texts below it are on average, or has numbers or dates below.
    """
    first, *below = [[(field or "").strip() for field in row] for row in rows[:EXAMINED]]
    columns = [(cell, [text for row in below if (text := _cell(row, column))]) for column, cell in enumerate(first)]
    return all(_is_name(cell) and not _is_text(cell) for cell in first) and not all(
        _is_as_long(cell, texts) for cell, texts in columns
    )


def numbered(width: int) -> tuple[str, ...]:
    """Return names for the columns of a table without a header."""
    return tuple(f"column {number}" for number in range(1, width + 1))


def names(fields: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns, stripped and unique. A column without a name gets its number."""
    names: list[str] = []
    while len(fields) > 1 and not fields[-1].strip():
        fields = fields[:-1]
    for number, field in enumerate(fields, 1):
        name = field.strip() or f"column {number}"
        names.append(f"{name} {number}" if name in names else name)
    return tuple(names)


def _is_used(rows: Sequence[Cells], column: int) -> bool:
    return 2 * sum(bool(_cell(row, column)) for row in rows) >= len(rows)


def _is_title(row: Cells, used: Sequence[int], number: int) -> bool:
    """Return True for a row with few cells. The first title must begin in the leftmost column of the table."""
    cells = [column for column, cell in enumerate(row) if cell]
    if number == 0:
        return 0 < len(cells) <= min(2, len(used) // 2) and cells[0] <= used[0]
    return len(cells) <= (2 if len(used) > 2 else 1)


def _is_header(row: Cells, below: Sequence[Cells], used: Sequence[int], titles: Sequence[Cells]) -> bool:
    """Return True for a row of names that no row below repeats. A row directly below a single title may be an example, with the title as a header that
    lacks a name, unless its names are shorter than the texts below them."""
    names = [_cell(row, column).casefold() for column in used]
    if len(set(names)) < len(names) or not all(map(_is_name, names)):
        return False
    columns = [[cell.casefold() for other in below if (cell := _cell(other, column))] for column in used]
    if any(name in texts for name, texts in zip(names, columns, strict=True)):
        return False
    if len(titles) > 1:
        return True
    title = "".join(titles[0])
    is_word = " " not in title and (len(titles[0]) == 1 or title.islower())  # a table may have only one column
    name, texts = max(zip(names, columns, strict=True), key=lambda each: _mean_length(each[1]))
    return not is_word and 2 * len(name) <= _mean_length(texts)


def _is_name(text: str) -> bool:
    """Return True for a short text with a letter that is not a sentence."""
    return len(text) <= LONGEST and any(map(str.isalpha, text)) and not text.endswith((".", "!", "?"))


def _is_text(cell: str) -> bool:
    """Return True for a sentence, and for a text that is longer than a column's name."""
    is_long = len(cell) > LONGEST or len(cell.split()) > MOST_WORDS
    return any(map(str.isalpha, cell)) and (is_long or cell.endswith(tuple("".join(ENDS))))


def _is_as_long(cell: str, texts: Sequence[str]) -> bool:
    """Return True if a cell is at least half as long as the texts of its column are on average. Numbers and dates are no texts."""
    lettered = [text for text in texts if any(map(str.isalpha, text))]
    return bool(lettered) and 2 * len(cell) >= _mean_length(lettered)


def _is_label(cell: str, texts: Sequence[str]) -> bool:
    """Return True if a cell is one of several texts that a column repeats."""
    return any(map(str.isalpha, cell)) and texts.count(cell) > 1 and 1 < len(set(texts)) <= len(texts) / 2


def _ends_alike(cell: str, texts: Sequence[str]) -> bool:
    """Return True if a text and nearly all texts of its column end with the same kind of sign. `Question?` and `Abbr.` may be names."""
    if " " not in cell and cell.isascii():
        return False
    signs = next((signs for signs in ENDS if cell.endswith(tuple(signs))), None)
    return signs is not None and len(texts) > 1 and sum(text[-1] in signs for text in texts) >= ALIKE * len(texts)


def _mean_length(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / max(1, len(texts))


def _cell(row: Cells, column: int) -> str:
    return row[column] if column < len(row) else ""
