"""Find the header of a table below rows of titles, as sheets and exports of offices have them."""

from collections.abc import Sequence

MOST = 20
"""Rows of titles above a header."""
LONGEST = 40
"""Characters of a name of a column."""
EXAMINED = 200
"""Rows that tell which columns are used."""
Cells = Sequence[str]


def num_titles(rows: Sequence[Sequence[str | None]]) -> int:
    """Return how many of the first rows are titles above the header; 0 if the first row is the header, or no row below is surely one.

    The header has a text in each column that half of the rows below it fill, and titles have one or two cells. A first row that lacks the
    name of one column is no title, nor one that names all but those on the left, which pandas leaves without a name.
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


def names(fields: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns: stripped, each once, by number where the header has none."""
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
    """Return True for a row with few cells. The first of all begins on the left of the table."""
    cells = [column for column, cell in enumerate(row) if cell]
    if number == 0:
        return 0 < len(cells) <= min(2, len(used) // 2) and cells[0] <= used[0]
    return len(cells) <= (2 if len(used) > 2 else 1)


def _is_header(row: Cells, below: Sequence[Cells], used: Sequence[int], titles: Sequence[Cells]) -> bool:
    """Return True for a row of names that no row below repeats. One that stands right below a single title may be an example below a header
    that lacks a name, unless its names are shorter than the texts below them."""
    names = [_cell(row, column).casefold() for column in used]
    if len(set(names)) < len(names) or not all(map(_is_name, names)):
        return False
    columns = [[cell.casefold() for other in below if (cell := _cell(other, column))] for column in used]
    if any(name in texts for name, texts in zip(names, columns, strict=True)):
        return False
    if len(titles) > 1:
        return True
    title = "".join(titles[0])
    is_word = " " not in title and (len(titles[0]) == 1 or title.islower())  # the name of one column may stand alone
    name, texts = max(zip(names, columns, strict=True), key=lambda each: _mean_length(each[1]))
    return not is_word and 2 * len(name) <= _mean_length(texts)


def _is_name(text: str) -> bool:
    """Return True for a short text with a letter that is no sentence."""
    return len(text) <= LONGEST and any(map(str.isalpha, text)) and not text.endswith((".", "!", "?"))


def _mean_length(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / max(1, len(texts))


def _cell(row: Cells, column: int) -> str:
    return row[column] if column < len(row) else ""
