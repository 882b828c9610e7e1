"""Large tables of other formats than JSON lines are read in parts too: killed, gone on with, by one process or two, the same bytes."""

import polars as pl
import pytest

from tasks.io.sources.formats import columnar, delimited
from tasks.io.system import files
from tasks.io.system import workers as system_workers
from tasks.io.system.workers import Workers
from tasks.stages.ingest.config import File, IngestConfig
from tasks.stages.ingest.reading.examples import read_rows
from tasks.stages.ingest.shards import parts, workers
from tasks.stages.ingest.shards.collection import Reader, Shards, num_read
from tasks.stages.ingest.shards.parts import parts_of
from tests.support import ScratchRun

ROWS = [
    {"prompt": f'What is "{n}"?', "completion": f"It is {n * n},\nand so on. {'So it is. ' * 20}"} for n in range(200)
]


def csv(rows, delimiter=","):
    quoted = ([f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row.values()] for row in rows)
    return "".join(delimiter.join(row) + "\n" for row in [["prompt", "completion"], *quoted])


@pytest.fixture(params=["a.tsv", "a.parquet"])
def table(request, tmp_path, monkeypatch):
    """A table of some ten parts, one row of which is refused."""
    monkeypatch.setattr(delimited, "BLOCK", 5_000)
    monkeypatch.setattr(columnar, "BLOCK", 5_000)
    rows, path = [*ROWS, {"prompt": "No answer?", "completion": ""}], tmp_path / request.param
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path, row_group_size=20)
    else:
        path.write_text(csv(rows, "," if path.suffix == ".csv" else "\t"))
    return path


def reader(path, folder, processes=None):
    """A reader of a table's parts, and the parts."""
    source = File.model_validate({"from": "file", "path": str(path)})
    config = IngestConfig(sources=(source,))
    return Reader(config, folder / "cache", folder, ScratchRun(folder), processes), list(parts_of(source, config))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_parts_hold_the_rows_that_a_reader_of_the_whole_file_finds(table, tmp_path):
    read, planned = reader(table, tmp_path / "run")
    assert len(planned) > 5
    shards, summaries = read.read(planned)
    rows = [tuple(row) for _, shard in Shards(shards) for row in shard.examples(["file", "source", "id"]).iter_rows()]
    expected = list(read_rows(File.model_validate({"from": "file", "path": str(table)}), 0))
    assert rows == [(file, row.source, row.id) for file, row in expected if hasattr(row, "messages")]
    assert len(rows) == 200
    assert num_read(summaries).total() == 201


def test_a_killed_run_goes_on_with_the_part_that_was_read_and_ends_in_the_same_bytes(table, tmp_path, monkeypatch):
    read, planned = reader(table, tmp_path / "whole")
    read.read(planned)
    plain, written = parts.write_part, []

    def killed(part, folder, config):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(folder)
        return plain(part, folder, config)

    read, planned = reader(table, tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(workers, "write_part", killed)
        with pytest.raises(KeyboardInterrupt):
            read.read(planned)
    again = []
    monkeypatch.setattr(workers, "write_part", lambda *of: again.append(of[1]) or plain(*of))
    read.read(planned)
    assert len(again) == len(planned) - 3
    assert contents(tmp_path / "killed/cache") == contents(tmp_path / "whole/cache")


def test_two_processes_write_the_same_bytes_as_one(table, tmp_path, monkeypatch):
    monkeypatch.setattr(system_workers, "WORTH", 1)
    for name, processes in (("alone", 1), ("together", 2)):
        with Workers(processes) as some:
            read, planned = reader(table, tmp_path / name, some)
            read.read(planned)
    assert contents(tmp_path / "alone/cache") == contents(tmp_path / "together/cache")


def test_rows_at_the_end_of_a_delimited_file_cost_its_last_part(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 5_000)
    path = tmp_path / "a.csv"
    path.write_text(csv(ROWS))
    before = [part.key for part in reader(path, tmp_path)[1]]
    path.write_text(csv([*ROWS, {"prompt": "One more?", "completion": "Yes."}]))
    assert [part.key for part in reader(path, tmp_path)[1]][: len(before) - 1] == before[:-1]
    files.remove(path)
    path.write_text(csv(ROWS, ";"))
    assert not {part.key for part in reader(path, tmp_path)[1]} & set(before)
