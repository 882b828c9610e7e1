"""A flow run waits for a person's word, and goes on with it."""

import contextvars
import threading
import time

import pytest
import yaml

from flows import approval
from flows.execution import prefect_server, workspace_lease
from flows.promote import promote
from flows.registry import history, promotion
from flows.registry.history import Approval
from tasks.io.runs import logged_models, run_store
from tests.flows.registry.test_promotion import nights  # noqa: F401  # a fixture is used by its name


@pytest.fixture
def asking(nights, prefect, monkeypatch):  # noqa: F811
    """A workspace that wants a person's word, on a Prefect server that others reach."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(approval, "POLL_S", 1)
    monkeypatch.setattr("flows.execution.cancellation.follow", lambda run: None)
    with temporary_settings({PREFECT_API_URL: prefect}):
        yield nights


def configure(asking, **gate):
    path = asking.folder / "params.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"gate": {"approval": "ask"} | gate}))


def answered_when_asked(given, seen):
    """Answer as soon as a run waits; the workspace must be free meanwhile."""
    for _ in range(300):
        if approval.answer(given):
            seen.append(not workspace_lease.is_busy())
            return
        time.sleep(0.2)


def test_the_question_has_addresses_of_the_report_that_a_browser_opens(nights):  # noqa: F811
    nights.night("one", 1.9)
    decision, _ = promotion.judge()
    here = f"{(nights.folder / 'data/report/index.html').as_uri()} on "
    assert f"The report is {here}" in approval.question(decision)
    client, experiment = run_store.connect()
    run = client.create_run(experiment).info.run_id
    model = {"name": "one", "candidate": decision.candidate, "metrics": {"domain_loss": 1.9}, "time": 0}
    logged_models.record(client, experiment, run, model)
    text = approval.question(decision)
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run}/artifacts/report/index.html"
    assert f"[The report]({page}?workflowType=machine_learning) is in MLflow, and {here}" in text
    assert text.endswith("Its links answer while `ratchet ui` runs (port 5000).")


def test_a_flow_run_waits_for_the_answer_and_the_workspace_is_free_meanwhile(asking):
    with prefect_server.connected():
        for number, (name, loss) in enumerate((("one", 1.9), ("two", 1.8))):
            configure(asking)
            asking.night(name, loss)
            given, seen = Approval(approved=number == 0, by="Ann", reason="tried it"), []
            of_the_server = contextvars.copy_context()
            person = threading.Thread(target=of_the_server.run, args=(answered_when_asked, given, seen))
            person.start()
            verdict = promote()
            person.join()
            assert seen == [True]
            assert verdict == ("promoted", "refused")[number]
            assert history.read().decisions[-1].approval == given
            assert asking.champion == "one"
        configure(asking, approval_hours=0.0005)
        asking.night("three", 1.7)
        assert promote() == "refused"
        assert history.read().decisions[-1].reason.startswith("nobody approved it (no answer within 0.0005 h)")
        assert not approval.answer(Approval(approved=True, by="Ann")), "no run waits any more"
