"""Names of splits are known by themselves, and at either end of the name of a file."""

import pytest

from tasks.core.split_names import named_split, split_of_file


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), (" Validation", "valid"), ("DEV", "valid"), ("test", "test"), ("gate", "gate"), ("tests", None), ("", None), (None, None), (1, None)],
)  # fmt: skip
def test_a_value_names_a_split(name, split):
    assert named_split(name) == split


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train.jsonl", "train"),
        ("test-00000-of-00002.parquet", "test"),
        ("questions_dev.csv.gz", "valid"),
        ("squad.v2.test.json", None),
        ("contest.json", None),
        ("2024.json", None),
        (".json", None),
    ],
)
def test_a_file_is_named_by_its_first_or_last_word(file, split):
    assert split_of_file(file) == split
