"""The best round is the one of the lowest validation loss, and the reason stands beside it."""

import json

import pytest

from tasks.stages.select import stage
from tasks.stages.select.best_round import choose
from tasks.stages.select.config import StageConfig
from tests.support import ScratchRun


@pytest.fixture
def select(tmp_path):
    """The selection among rounds whose trainings ended with these validation losses."""

    def among(*courses):
        names = [f"r{n}" for n in range(len(courses))]
        for name, course in zip(names, courses, strict=True):
            (tmp_path / "tuned" / name).mkdir(parents=True)
            if course is not None:
                text = json.dumps({"measured": {"validation": course} if course else {}})
                (tmp_path / "tuned" / name / "training.json").write_text(text)
        run = ScratchRun(tmp_path)
        output = tmp_path / "selection.json"
        config = StageConfig.model_validate({"rounds": {name: {} for name in names}})
        stage.main({"tuned": tmp_path / "tuned"}, {"selection": output}, config, run)
        selection = json.loads(output.read_text())
        assert run.notes == {"selected": selection["round"]}
        assert run.said == [f"select: {selection['round']}, {selection['why']}"]
        return selection

    return among


def test_the_lowest_loss_at_the_end_wins(select):
    selection = select([[0, 3.0], [9, 2.0]], [[0, 3.0], [9, 1.5]], [[0, 1.0], [9, 1.75]])
    assert selection["round"] == "r1"
    assert selection["why"] == "the lowest validation loss of 3 rounds: r0 2.0000, r1 1.5000, r2 1.7500"
    assert selection["validation"] == {"r0": 2.0, "r1": 1.5, "r2": 1.75}


def test_of_equals_the_earliest_wins(select):
    selection = select([[9, 2.0]], [[9, 1.5]], [[9, 1.5]])
    assert selection["round"] == "r1"
    assert selection["why"].startswith("the earliest of r1 and r2, which have the lowest validation loss of 3 rounds")


def test_where_every_round_passed_through_the_first_is_kept_and_it_is_said(select):
    selection = select(None, None)
    assert selection == {
        "round": "r0",
        "why": "no round has a validation loss that is a number, so the first is kept: r0 has none, r1 has none",
        "validation": {"r0": None, "r1": None},
    }


def test_a_round_without_a_loss_does_not_win(select):
    assert select([], [[9, 2.0]])["round"] == "r1"


def test_a_loss_that_is_no_number_does_not_win_and_is_written_as_none(select):
    selection = select([[9, float("nan")]], [[9, 2.0]])
    assert selection["round"] == "r1"
    assert selection["validation"] == {"r0": None, "r1": 2.0}


def test_one_round_is_the_best_of_one(select):
    assert select([[9, 2.0]])["why"] == "there is no other round"


def test_ten_rounds_stand_in_their_order_and_not_by_letters():
    assert choose({f"r{n}": 1.0 for n in range(11)}).round == "r0"
    assert choose({f"r{n}": 1.0 if n > 1 else 2.0 for n in range(11)}).round == "r2"


def test_a_round_that_did_not_run_is_named(tmp_path):
    config = StageConfig.model_validate({"rounds": {"r0": {}}})
    with pytest.raises(FileNotFoundError, match="`dvc repro tune@r0` makes it"):
        stage.main({"tuned": tmp_path}, {"selection": tmp_path / "out.json"}, config, ScratchRun(tmp_path))
