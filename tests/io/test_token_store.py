"""A token store gives back what it was given, goes on after a kill, and is made once for all who want it."""

import multiprocessing
import os
import pickle
import time

import pytest

from tasks.core.sequences import Column, Encoded
from tasks.io import token_store
from tasks.io.token_store import CONTENTS, Tokenized, open_or_make

COLUMNS = (Column("marks"), Column("reference", fill=0.0))
FORK = multiprocessing.get_context("fork")


def sequence(number, **fields):
    ids = list(range(number % 5 + 2))
    return Encoded(
        f"e{number}", ids, [0.0] + [0.5] * (len(ids) - 1), number, f"task{number % 2}", f"d{number % 3}", **fields
    )


def row(number):
    """One sequence; of every fourth row with an auxiliary one and columns, of every seventh none."""
    if number % 7 == 6:
        return Tokenized([], "d9", too_long=1)
    one = sequence(number)
    if number % 4 == 0:
        other = sequence(number + 1, columns={"reference": [0.25] * len(sequence(number + 1))})
        one = sequence(number, columns={"marks": [7] * len(one)}, auxiliary=(other, other))
    return Tokenized([one], one.domain)


ROWS = [row(number) for number in range(40)]


def flat(rows):
    return [one for made in rows for one in made.sequences]


SEQUENCES = flat(ROWS)


def make(folder, rows=ROWS, said=None):
    return open_or_make(folder, COLUMNS, lambda contents: rows[contents.rows :], ([] if said is None else said).append)


def read(store):
    return [store.read(place) for place in range(len(store))]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refuse(contents):
    raise AssertionError("it is made already")


@pytest.fixture
def often(monkeypatch):
    """A commit after every few rows."""
    monkeypatch.setattr(token_store, "COMMIT_TOKENS", 20)


def test_sequences_come_back_as_they_went(tmp_path):
    store = make(tmp_path / "s")
    assert read(store) == SEQUENCES
    assert store.records["tokens"].tolist() == [len(one) for one in SEQUENCES]
    assert store.records["trained"].tolist() == [one.num_trained for one in SEQUENCES]
    assert store.contents.rows == len(ROWS)
    assert store.contents.too_long == {"d9": 5}


def test_the_points_of_commit_change_nothing(tmp_path, monkeypatch):
    make(tmp_path / "once")
    monkeypatch.setattr(token_store, "COMMIT_TOKENS", 20)
    make(tmp_path / "often")
    assert files(tmp_path / "often") == files(tmp_path / "once")


def test_a_store_is_made_once(tmp_path):
    make(tmp_path / "s")
    assert read(open_or_make(tmp_path / "s", COLUMNS, refuse, print)) == SEQUENCES


def test_a_process_that_loads_data_opens_it_by_its_name(tmp_path):
    pickled = pickle.dumps(make(tmp_path / "s"))
    assert len(pickled) < 1000
    assert read(pickle.loads(pickled)) == SEQUENCES


@pytest.mark.parametrize("last", [1, 25])
def test_a_killed_process_is_gone_on_from(tmp_path, often, last):
    def dies(contents):
        yield from ROWS[contents.rows : last]
        os._exit(9)

    process = FORK.Process(target=open_or_make, args=(tmp_path / "s", COLUMNS, dies, print))
    process.start()
    process.join()
    assert process.exitcode == 9
    with (tmp_path / "s" / "ids").open("ab") as file:
        file.write(b"not committed")
    firsts, said = [], []

    def rest(contents):
        firsts.append(contents.rows)
        assert contents.tokens == sum(len(s) + sum(map(len, s.auxiliary)) for s in flat(ROWS[: contents.rows]))
        return ROWS[contents.rows :]

    store = open_or_make(tmp_path / "s", COLUMNS, rest, said.append)
    assert firsts == [0] if last == 1 else 0 < firsts[0] <= last
    assert said == []
    assert read(store) == SEQUENCES
    make(tmp_path / "plain")
    assert files(tmp_path / "s") == files(tmp_path / "plain")


def test_rows_that_cannot_be_tokenised_leave_no_store(tmp_path):
    def fails(contents):
        yield ROWS[0]
        raise ValueError("the template cannot say it")

    with pytest.raises(ValueError, match="cannot say it"):
        open_or_make(tmp_path / "s", COLUMNS, fails, print)
    assert read(make(tmp_path / "s")) == SEQUENCES


@pytest.mark.parametrize("name", ["sequences", "ids", "weights", "names", "column-marks", CONTENTS])
@pytest.mark.parametrize("damage", ["cut", "gone", "longer"])
def test_a_store_that_is_not_as_it_was_written_is_made_anew_and_it_is_said(tmp_path, name, damage):
    make(tmp_path / "s")
    path, said = tmp_path / "s" / name, []
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] if damage == "cut" else path.read_bytes() + b"x")
    store = make(tmp_path / "s", said=said)
    assert read(store) == SEQUENCES
    if (name, damage) != (CONTENTS, "gone"):  # as if nothing had been finished
        (line,) = said
        assert name in line
        assert "computed again" in line


def test_processes_that_want_one_store_share_it(tmp_path):
    def slowly(contents):
        with (tmp_path / "makers").open("a") as file:
            file.write("x")
        for made in ROWS:
            time.sleep(0.005)
            yield made

    def want(number):
        store = open_or_make(tmp_path / "s", COLUMNS, slowly, lambda _: None)
        (tmp_path / f"right{number}").write_text(str(read(store) == SEQUENCES))

    processes = [FORK.Process(target=want, args=(number,)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "makers").read_text() == "x"
    assert [(tmp_path / f"right{number}").read_text() for number in range(3)] == ["True"] * 3


def test_a_store_that_nothing_opened_for_long_makes_room_for_another(tmp_path):
    for name in ("old", "used"):
        make(tmp_path / name)
    past = time.time() - token_store.UNUSED_S - 60
    for name in ("old", "used"):
        os.utime(tmp_path / name / CONTENTS, (past, past))
    make(tmp_path / "used")
    make(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["new", "used"]


def test_an_empty_store_is_one_too(tmp_path):
    assert read(make(tmp_path / "s", [])) == []
    assert read(open_or_make(tmp_path / "s", COLUMNS, refuse, print)) == []
