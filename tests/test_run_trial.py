"""What a trial of a comparison measures of its training."""

import os
import threading
from types import SimpleNamespace

import pytest

from tasks import run_trial
from tasks.io.system import locks
from tasks.io.weights import banks, checkpoints

LOSSES = [(1, 10, 5.0), (2, 30, 5.0), (3, 60, 5.0), (4, 100, 5.0), (5, 150, 5.0)]
"""(step, tokens so far, loss)."""


def test_the_speed_is_that_of_the_steps_without_loading_and_without_checkpoints():
    ends = {1: 100.0, 2: 101.0, 3: 111.0, 4: 113.0, 5: 123.0}  # a checkpoint after steps 2 and 4
    assert run_trial.speed(ends, LOSSES, save_every=2) == pytest.approx((20 + 40) / (1 + 2))
    assert run_trial.speed(ends, LOSSES, save_every=0) == pytest.approx(140 / 23)


def test_a_training_that_went_on_has_the_speed_of_the_steps_that_it_made_itself():
    assert run_trial.speed({4: 7.0, 5: 9.0}, LOSSES, save_every=0) == pytest.approx(50 / 2)


@pytest.mark.parametrize(("ends", "save_every"), [({}, 0), ({5: 3.0}, 0), ({1: 1.0, 2: 2.0}, 1)])
def test_without_two_steps_in_a_row_there_is_no_speed(ends, save_every):
    assert run_trial.speed(ends, LOSSES, save_every) is None


def test_a_step_ends_when_it_is_logged(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ticks = iter((3.0, 5.0))
    run = run_trial.TimedRun("tune", "r0", "0" * 16, None, clock=lambda: next(ticks))
    run.log(1, **{"train/loss": 1.0})
    run.log(1, **{"valid/loss": 1.0})
    run.log(None, validation=1.0)
    run.log(2, **{"train/loss": 1.0})
    assert run.ends == {1: 3.0, 2: 5.0}
    assert run.validated == {1}


def test_a_step_after_a_validation_is_left_out_of_the_speed():
    ends = {1: 100.0, 2: 101.0, 3: 111.0, 4: 113.0, 5: 123.0}
    assert run_trial.speed(ends, LOSSES, save_every=0, validated={2, 4}) == pytest.approx((20 + 40) / (1 + 2))


def test_without_validation_tokens_no_rate_can_be_chosen_and_nothing_trains(tmp_path):
    section = SimpleNamespace(valid_tokens=0)
    with pytest.raises(
        ValueError, match=r"tune\.valid_tokens is 0, and learning rates are chosen by the validation loss"
    ):
        run_trial._train("tune", tmp_path, SimpleNamespace(tune=section), None)
    assert not any(tmp_path.iterdir())


def test_a_bank_is_measured_by_its_one_adapter(tmp_path):
    assert run_trial.measured(tmp_path) == tmp_path
    bank = tmp_path / checkpoints.BANK
    members = {name: banks.Member(f"{name}-1", "", 8) for name in ("law", "code")}
    bank.mkdir()
    banks.write_card(bank, {"law": members["law"]}, "domain")
    assert run_trial.measured(tmp_path) == bank / "law-1"
    banks.write_card(bank, members, "domain")
    with pytest.raises(ValueError, match="measures one model, and there are adapters of code, law"):
        run_trial.measured(tmp_path)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_trial_waits_for_another_process_that_is_at_it_and_is_made_once(tmp_path, monkeypatch, capsys, is_finished):
    """A command was started twice, or one that was killed has left its child."""
    folder, made = tmp_path / "trial", []
    folder.mkdir()
    monkeypatch.setattr(run_trial, "_make", made.append)
    monkeypatch.setattr(run_trial, "PACE_S", 0.01)
    this = threading.Thread(target=run_trial.main, args=(folder,))
    with locks.exclusive(tmp_path / "trial.lock"):
        this.start()
        this.join(timeout=1)
        assert this.is_alive()
        assert made == []
        if is_finished:
            (folder / "result.json").write_text("{}")
    this.join(timeout=10)
    assert made == ([] if is_finished else [folder])
    assert f"process {os.getpid()} is running the trial in {folder}. This one waits for it." in capsys.readouterr().out


def test_a_trial_that_another_machine_may_be_at_is_left_to_it(tmp_path):
    (tmp_path / "trial.lock").write_text("12 elsewhere another-boot")
    with pytest.raises(RuntimeError, match=r"trial\.lock is held by process 12 of elsewhere\. .*: rm .*trial\.lock"):
        run_trial.main(tmp_path / "trial")
