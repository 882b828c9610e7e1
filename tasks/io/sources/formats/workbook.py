"""Sheets of an Excel or OpenDocument workbook, by calamine (extra `excel`)."""

from collections.abc import Iterator

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.formats import workbook_size
from tasks.io.sources.record import Record, Row, UnreadableError, first_line


def read(entry: Entry) -> Iterator[Record]:
    """Yield the rows of every sheet, the cells as text. The first row of a sheet names its columns, and blank rows are no records."""
    try:
        import fastexcel
    except ImportError:
        raise UnreadableError(
            f'{entry.name}: Excel files need the extra `excel`: pip install "ratchet-llm[excel]"'
        ) from None
    with entry.on_disk() as path:
        workbook_size.check(path, entry.name)
        try:
            workbook = fastexcel.read_excel(path)
            for name in workbook.sheet_names:
                sheet = workbook.load_sheet(name, dtypes="string")
                many = f"sheet {name!r}, " if len(workbook.sheet_names) > 1 else ""
                for number, values in enumerate(sheet.to_polars().iter_rows(named=True), 2):
                    if any(value is not None for value in values.values()):
                        yield Row(f"{many}row {number}", values)
        except fastexcel.FastExcelError as error:
            raise UnreadableError(f"{entry.name}: this is no workbook: {first_line(error)}") from None
