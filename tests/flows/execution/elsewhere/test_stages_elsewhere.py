"""Stages of a flow on another machine: the same lock, and their runs are the flow's."""

import pytest

from tests.flows.conftest import ROOT
from tests.flows.test_pipeline import parents, runs

COPY = "cmd: cp in.txt one.txt"
RECORDS = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tasks.io.runs import tracking
run = tracking.Recorder("there", parent=os.environ["RATCHET_PARENT"], tags={{"git.commit": "none"}})
run.metrics({{"loss": 3.0}}, 1)
run.end("FINISHED")
"""


def test_four_stages_there_leave_the_lock_of_four_stages_here_and_their_run_is_the_flows(
    workspace, box, finished, prefect
):
    names = ("one", "two", "side", "last")
    text = workspace.path("params.yaml").read_text()
    workspace.path("params.yaml").write_text(
        f"{text}\nresources: {{{', '.join(f'{n}: {{host: gpu-box}}' for n in names)}}}\n"
    )
    workspace.path("records.py").write_text(RECORDS)
    workspace.edit("dvc.yaml", COPY, "cmd: python records.py && cp in.txt one.txt")
    said = workspace.ratchet("run", PREFECT_API_URL=prefect, RATCHET_HOSTS=str(box.hosts))
    assert "Done: 4 ran." in said
    assert "one: on gpu-box: it has not run yet" in said
    command = b"cmd: python records.py && cp in.txt one.txt"
    assert workspace.lock.replace(command, COPY.encode()) == (finished / "dvc.lock").read_bytes()
    assert (
        (box.checkout("two") / "two/sorted.txt").read_text() == workspace.path("two/sorted.txt").read_text() == "a\nb\n"
    )
    assert not (box.checkout("side") / "one.txt").exists()  # no input of that stage
    (parent,) = parents(workspace)
    (child,) = [run for run in runs(workspace) if run.info.run_name == "there"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["ratchet.host"] == "gpu-box"
    assert (child.info.status, child.data.metrics) == ("FINISHED", {"loss": 3.0})


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself
def test_an_input_that_is_edited_while_a_host_works_lets_dvc_record_nothing(workspace, monkeypatch):
    """DVC hashes inputs when the command has ended: what the host made of the old one would pass for what comes of the new one."""
    from dvc.exceptions import ReproductionError
    from dvc.repo import Repo
    from dvc.stage import run

    from flows.execution.dvc import remote_command

    def work(name, sent, say):
        said.append(workspace.path("in.txt").read_text())
        workspace.path("one.txt").write_text(said[-1])
        if len(said) == 1:
            workspace.path("in.txt").write_text("c\n")
        return 0

    said = []
    monkeypatch.setattr(run, "cmd_run", run.cmd_run)
    monkeypatch.setattr(remote_command.job, "run", work)
    remote_command.use("h")
    with Repo(".") as repo:
        with pytest.raises(ReproductionError):
            repo.reproduce("one", single_item=True)
        assert not workspace.path("dvc.lock").exists()
        repo.reproduce("one", single_item=True)
    assert workspace.path("one.txt").read_text() == said[1] == "c\n"
