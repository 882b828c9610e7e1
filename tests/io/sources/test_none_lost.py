"""Nothing is lost: each reader yields a record for every line or row of a file, whatever it holds, and raises nothing else."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.io.sources import table
from tasks.io.sources.record import Broken, Row, UnreadableError
from tests.io.sources import strangers

bounded = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
junk = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
objects = st.dictionaries(st.text(max_size=4), scalars | st.lists(scalars, max_size=3), min_size=1, max_size=4)


def read(path, data):
    path.write_bytes(data)
    try:
        return list(table.rows(path))
    except UnreadableError:
        return None


@bounded
@given(st.lists(junk | objects.map(lambda value: json.dumps(value).encode()), max_size=20))
def test_each_line_of_json_lines_is_a_record(tmp_path, lines):
    data = b'{"a": 1}\n' + b"\n".join(lines)
    records = read(tmp_path / "a.jsonl", data)
    numbers = [int(record.where.split()[1]) for record in records]
    filled = [
        n for n, line in enumerate(lines, 2) if line.decode("latin-1").strip(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0")
    ]
    assert numbers == sorted(set(numbers))
    assert set(filled) <= set(numbers) <= {1, *range(2, len(lines) + 2)}


@bounded
@given(st.lists(st.text("ab\"',;\\\t é", max_size=12), max_size=20))
def test_each_line_of_a_delimited_file_is_in_a_record(tmp_path, lines):
    records = read(tmp_path / "a.csv", "\n".join(["q,a", *lines]).encode())
    spans = sum(
        1 + (json.dumps(record.values).count("\\n") if isinstance(record, Row) else record.record.count("\n"))
        for record in records
    )
    filled = sum(1 for line in lines if line)
    assert spans >= filled
    assert len({record.where for record in records}) == len(records)


@bounded
@given(st.lists(objects, max_size=12), st.sampled_from([None, 0, 2]))
def test_each_object_of_a_document_is_a_row(tmp_path, values, indent):
    records = read(
        tmp_path / "a.json", json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    )
    assert all(isinstance(record, Row) for record in records)
    assert len(records) == len(values)


@bounded
@given(st.sampled_from(sorted(strangers.FILES)), st.integers(0, 400), st.binary(min_size=1, max_size=6))
def test_damage_anywhere_is_a_record_or_a_refusal(tmp_path, name, place, damage):
    data = bytearray(strangers.FILES[name])
    place %= len(data)
    data[place : place + len(damage)] = damage
    records = read(tmp_path / name, bytes(data))
    assert records is None or all(isinstance(record, Row | Broken) for record in records)


@bounded
@given(st.sampled_from(sorted(strangers.FILES)), st.floats(0, 1))
def test_a_file_that_ends_early_is_no_traceback(tmp_path, name, share):
    data = strangers.FILES[name]
    records = read(tmp_path / name, data[: int(share * len(data))])
    assert records is None or all(record.where for record in records)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json"])
def test_ten_thousand_malformed_lines(tmp_path, ending):
    good, bad = {
        ".jsonl": ('{"q": "x", "a": "y"}', '{"q": "x", "a"'),
        ".csv": ("x,y", 'x,"y" z'),
        ".json": ('{"q": "x", "a": "y"},', '{"q": "x" "a": "y"},'),
    }[ending]
    lines = [bad if number % 10 else good for number in range(10_000)]
    start, end = {".jsonl": ("", ""), ".csv": ("q,a\n", ""), ".json": ("[", '{"q": 1}]')}[ending]
    records = read(tmp_path / f"a{ending}.gz", gzip.compress((start + "\n".join(lines) + end).encode()))
    assert sum(isinstance(record, Broken) for record in records) == 9_000
    assert sum(isinstance(record, Row) for record in records) == 1_000 + (ending == ".json")
