"""Data sets of the hub and on disk."""

import json

import pytest

from tasks.io.sources import hub
from tasks.io.sources.record import Row


@pytest.fixture
def saved(tmp_path):
    import datasets

    data = datasets.Dataset.from_list([{"prompt": "a", "completion": "b"}])
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "all")
    data.save_to_disk(tmp_path / "one")
    return tmp_path


def test_a_saved_data_set_is_rows(saved):
    expected = [Row("row 1", {"prompt": "a", "completion": "b"})]
    assert list(hub.from_disk(saved / "all", "train")) == expected
    assert list(hub.from_disk(saved / "one", "train")) == expected


def test_a_split_that_is_not_there_is_told_with_those_that_are(saved):
    with pytest.raises(ValueError, match=r"no split 'test'\. There are: train"):
        hub.from_disk(saved / "all", "test")


def test_a_folder_that_holds_no_data_set_is_reported(tmp_path):
    with pytest.raises(ValueError, match="no data set was saved here"):
        hub.from_disk(tmp_path, "train")


@pytest.mark.parametrize("description", ["{}", "[]", "null", '{"_data_files": 1}'])
def test_a_data_set_whose_description_is_damaged_is_reported(saved, description):
    (saved / "one/state.json").write_text(description)
    with pytest.raises(ValueError, match=r"one: no data set was saved here, or it is damaged: "):
        hub.from_disk(saved / "one", "train")


def test_a_data_set_whose_texts_are_damaged_is_told_and_not_read(saved):
    (file,) = (saved / "one").glob("*.arrow")
    before, _, after = file.read_bytes().rpartition(
        b"\0\0\0\0\1\0\0\0"
    )  # where the text of the last column begins and ends
    file.write_bytes(before + b"\0\0\0\0\xff\0\0\0" + after)
    with pytest.raises(ValueError, match=r"one: the data set is damaged: "):
        hub.from_disk(saved / "one", "train")


def test_without_the_hub_one_message_says_what_would_do(monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError, match=r"'owner/name' at revision '0123abcd'.*the network.*save_to_disk"):
        hub.from_hub("owner/name", "0123abcd", None, "train")


def test_a_data_set_of_the_hub_is_read_at_its_revision(tmp_path, monkeypatch):
    """`datasets` takes a folder of this name below the working folder for the repository: all but the download is real."""
    repository = tmp_path / "owner/name"
    repository.mkdir(parents=True)
    for split, words in (("train", "ab"), ("test", "c")):
        rows = [{"prompt": f"{word}?", "completion": word} for word in words]
        (repository / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import datasets

    plain, revisions = datasets.load_dataset, []

    def load(*names, **options):
        revisions.append(options["revision"])
        return plain(*names, **options, cache_dir=tmp_path / "cache")

    monkeypatch.setattr(datasets, "load_dataset", load)
    expected = [Row("row 1", {"prompt": "a?", "completion": "a"}), Row("row 2", {"prompt": "b?", "completion": "b"})]
    assert list(hub.from_hub("owner/name", "0123abcd", None, "train")) == expected
    with pytest.raises(ValueError, match=r"'owner/name' at revision '0123abcd'.*nowhere"):
        hub.from_hub("owner/name", "0123abcd", None, "nowhere")
    assert revisions == ["0123abcd"] * 2
