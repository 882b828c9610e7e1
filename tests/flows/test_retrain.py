"""A night: judged once, refused without a crash, and short where nothing is new."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flows import retrain
from flows.execution import workspace_lease
from flows.registry import drift_log, retrain_log
from tests.flows.conftest import wait_for
from tests.flows.registry.test_promotion import Nights

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


@pytest.fixture
def models(done, store):
    """The models of a workspace whose small graph is up to date but for the settings of this profile."""
    return Nights(done.folder)


def pipeline():
    """The graph brought up to date by plain DVC."""
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    return {"one": "ran"}


def never():
    raise AssertionError("nothing had changed")


def night(run=pipeline, drift=""):
    return retrain.retrain_once("nightly", drift, run)


def test_new_data_are_judged_and_a_night_without_news_says_so_in_one_line(models, done):
    models.night("better", 1.9)
    assert night().outcome == "promoted"
    assert models.champion == "better"
    again = night(never)
    assert again.outcome == "nothing new"
    assert again.reason.startswith("no data, settings or code changed; version 1 was judged on ")
    assert len(models.lines()) == 1
    told = done.ratchet("status").splitlines()
    assert [line.split("  ")[1:3] for line in told if line.startswith("night")] == [
        ["nightly", "promoted"],
        ["nightly", "nothing new"],
    ]
    assert all("\n" not in line.reason for line in retrain_log.last(14))


def test_drift_without_new_data_asks_for_some(models):
    models.night("better", 1.9)
    night()
    assert night(never, "prompts differ").reason.endswith(". New data are needed: prompts differ")


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (lambda paths: SimpleNamespace(proposal=f"a new adapter is proposed for {paths[0]}"), "a new adapter is proposed for in.jsonl"),
        (lambda paths: raising(RuntimeError("What came in could not be looked at.")), ""),
    ],
    ids=["a new domain", "data that cannot be looked at"],
)  # fmt: skip
def test_a_night_proposes_an_adapter_for_a_new_domain_and_does_not_fail_for_it(models, done, monkeypatch, check, told):
    models.night("better", 1.9)
    night()
    assert night(never).proposal == "", "nobody is set to look"
    with done.path("params.yaml").open("a") as config:
        config.write("monitor: {methods: [mmd, hdc], incoming: in.jsonl}\n")
    assert night(pipeline).proposal == "", "nothing came in"
    done.path("in.jsonl").write_text('{"prompt": "Well?"}\n')
    monkeypatch.setattr(drift_log, "check", check)
    ended = night(never)
    assert (ended.outcome, ended.proposal) == ("nothing new", told)


def raising(error):
    raise error


def test_stages_that_come_to_the_same_model_are_no_news(models, done):
    models.night("better", 1.9)
    night()
    done.path("in.txt").write_text("c\n")
    assert night().reason.startswith("1 stages ran and came to the same model; version 1")


def test_a_refused_candidate_is_an_outcome_with_its_reason(models):
    models.night("worse elsewhere", 1.9, general=3.5)
    ended = night()
    assert ended.outcome == "refused"
    assert "general" in ended.reason
    assert retrain_log.last(1)[0].outcome == "refused"


def test_a_night_that_fails_is_told_and_can_be_repeated(models):
    models.night("better", 1.9)

    def broken():
        raise RuntimeError("stage tune@r0 failed (exit code 1).\nMore lines")

    with pytest.raises(RuntimeError, match="tune@r0"):
        night(broken)
    (failed,) = retrain_log.last(14)
    assert (failed.outcome, failed.reason) == ("failed", "stage tune@r0 failed (exit code 1).")
    assert night().outcome == "promoted"


def test_a_night_that_was_killed_reads_cut_off_and_a_torn_line_swallows_none(workspace):
    retrain_log.JOURNAL.parent.mkdir(exist_ok=True)
    program = (
        "import os\nfrom flows.execution import workspace_lease\nfrom flows.registry import retrain_log\n"
        "with workspace_lease.acquired(), retrain_log.recorded('nightly'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], env=workspace.environment, check=False)
    assert [night.outcome for night in retrain_log.last(14)] == ["cut off"]
    with workspace_lease.acquired():  # another flow is at work, and not that night
        assert [night.outcome for night in retrain_log.last(14)] == ["cut off"]
    with retrain_log.JOURNAL.open("a") as file:
        file.write('{"id": "half')
    with workspace_lease.acquired(), retrain_log.recorded("nightly") as ended:
        assert [night.outcome for night in retrain_log.last(14)] == ["cut off", "at work"]
        ended.outcome = "refused"
    assert [night.outcome for night in retrain_log.last(14)] == ["cut off", "refused"]


def test_a_flow_may_claim_again_what_it_has_and_others_wait_for_it(workspace):
    program = "from flows.execution import workspace_lease\nwith workspace_lease.acquired(wait=True): print('mine')"
    with workspace_lease.acquired(), workspace_lease.acquired():
        other = workspace.start("timeit", "-n1", "-r1", program)
        wait_for(lambda: "This run starts when it has ended." in workspace.printed(), workspace.printed)
        assert f"process {os.getpid()}" in workspace.printed()
        assert "mine" not in workspace.printed()
    assert other.wait(60) == 0
    assert "mine" in workspace.printed()
