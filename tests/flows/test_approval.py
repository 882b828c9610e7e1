"""A flow run waits for a person's word, and goes on with it."""

import contextvars
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import SetStateStatus

from flows import approval, retrain
from flows.execution import flow_lease, prefect_server, workspace_lease
from flows.promote import promote
from flows.registry import history, promotion, retrain_log
from flows.registry.history import Approval
from tasks.io.runs import logged_models, run_store
from tests.flows.conftest import wait_for
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
    """Answer as soon as a run waits, once another run has asked too; the workspace must be free meanwhile."""
    with get_client(sync_client=True) as client:
        wait_for(lambda: approval.waiting(client))
    seen.append(promote())
    seen.append(not workspace_lease.is_busy())
    seen.append(approval.answer(given))


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


class Server:
    """Stands in for a Prefect server on which a run of another team is paused too."""

    def __init__(self, ours, status):
        self.paused = [
            SimpleNamespace(id=run, name=name, expected_start_time=1) for run, name in ((uuid4(), "theirs"), ours)
        ]
        self.outcome = SimpleNamespace(status=status, details=SimpleNamespace(reason="no form fits"))
        self.resumed = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Close nothing."""

    def read_flow_runs(self, flow_run_filter):
        return [run for run in self.paused if run.id in flow_run_filter.id.any_]

    def resume_flow_run(self, run, run_input):
        self.resumed.append(run)
        return self.outcome


def test_an_answer_goes_to_a_run_of_this_workspace_and_one_that_prefect_refuses_is_reported(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ours = uuid4()
    server = Server((ours, "tiny · promote"), SetStateStatus.ACCEPT)
    monkeypatch.setattr(approval, "get_client", lambda **_: server)
    word = Approval(approved=True, by="Ann")
    assert not approval.answer(word)
    approval.ASKED.mkdir(parents=True)
    (approval.ASKED / str(ours)).write_text('{"candidate": "abc"}')
    monkeypatch.setattr(promotion, "load_candidate", lambda: SimpleNamespace(name="r0", hash="abc"))
    assert approval.answer(word)
    assert server.resumed == [str(ours)]
    server.outcome.status = SetStateStatus.REJECT
    with pytest.raises(RuntimeError, match=r"flow run tiny · promote still waits: .*\(no form fits\)"):
        approval.answer(word)


def test_an_answer_goes_to_the_run_that_asks_about_the_present_candidate(nights, monkeypatch):  # noqa: F811
    nights.set(gate={"approval": "ask"})
    server, runs = Server((uuid4(), "tiny · promote"), SetStateStatus.ACCEPT), {}
    server.paused.clear()
    monkeypatch.setattr(approval, "get_client", lambda **_: server)
    approval.ASKED.mkdir(parents=True)
    for number, name in enumerate(("one", "two"), 1):
        nights.night(name, 1.9 - number / 10)
        runs[name] = uuid4()
        server.paused.append(SimpleNamespace(id=runs[name], name=f"tiny · {name}", expected_start_time=number))
        (approval.ASKED / str(runs[name])).write_text(promotion.judge().line.content)
    nights.night("one", 1.9)  # its run is the earlier one
    assert approval.answer(Approval(approved=True, by="Ann"))
    assert server.resumed == [str(runs["one"])]
    nights.night("three", 1.7)
    with pytest.raises(RuntimeError, match=r"another candidate than the one that flow run tiny · two asks about"):
        approval.answer(Approval(approved=True, by="Ann"))
    assert len(server.resumed) == 1


def test_a_run_asks_unless_one_that_is_paused_asks_the_same(nights, monkeypatch):  # noqa: F811
    nights.set(gate={"approval": "ask"})
    nights.night("one", 1.9)
    ours = uuid4()
    server = Server((ours, "tiny · retrain nightly"), SetStateStatus.ACCEPT)
    monkeypatch.setattr(approval, "get_client", lambda **_: server)
    approval.ASKED.mkdir(parents=True)
    (approval.ASKED / str(ours)).write_text(promotion.judge().line.content)
    monkeypatch.setattr(history, "now", lambda: "2026-03-01T00:00:00Z")
    nights.set(gate={"approval": "ask", "approval_hours": 48})
    same = promotion.judge().line
    assert approval.ask(same) is None
    nights.set(gate={"approval": "ask", "margins": {"general": 0.06}})
    assert approval._asked_by(promotion.judge().line) is None, "by other settings it is another question"
    server.paused.pop()
    assert approval._asked_by(same) is None, "the run was killed, and left its file"


@pytest.fixture
def pages(monkeypatch):
    """The pages of nights that ask, and in which an adapter is proposed."""
    decision, shown = SimpleNamespace(name="r0", reason="better"), []
    monkeypatch.setattr(promotion, "judge", lambda: (decision, True))
    monkeypatch.setattr(promotion, "complete_history", lambda: SimpleNamespace(lines=[]))
    monkeypatch.setattr(retrain, "_up_to_date", lambda _: 0)
    monkeypatch.setattr(retrain, "_new_domain", lambda: "Train an adapter.")
    monkeypatch.setattr(retrain, "create_markdown_artifact", lambda text, **_: shown.append(text))
    monkeypatch.setattr(flow_lease, "acquired", nullcontext)
    monkeypatch.setattr(prefect_server, "is_private", lambda: False)
    return shown


def test_a_night_that_comes_to_what_is_asked_already_ends(pages, monkeypatch):
    monkeypatch.setattr(approval, "ask", lambda _: None)
    assert retrain.retrain.fn().name == "Waits for approval"


def test_the_page_of_a_night_that_was_answered_has_the_proposed_adapter(pages, monkeypatch):
    monkeypatch.setattr(approval, "ask", lambda _: Approval(approved=True, by="Ann"))
    ended = retrain_log.RetrainOutcome("promoted", "version 1: better")
    monkeypatch.setattr(retrain, "settle_once", lambda *_: ended)
    assert retrain.retrain.fn().name == "Promoted"
    assert pages == ["**Promoted.** version 1: better\n\n**A new domain.** Train an adapter."]


def test_a_run_whose_answer_came_too_late_decides_nothing_and_tells_the_answer(nights, monkeypatch):  # noqa: F811
    nights.set(gate={"approval": "ask"})
    nights.night("one", 1.9)
    first, late = Approval(approved=True, by="Ann"), Approval(approved=False, by="Bob", reason="too short")
    asked = []

    def ask(decision):
        asked.append(decision)
        promotion.settle(decision, first)
        return late

    monkeypatch.setattr(flow_lease, "acquired", nullcontext)
    monkeypatch.setattr(prefect_server, "is_private", lambda: False)
    monkeypatch.setattr(approval, "ask", ask)
    state = promote.fn()
    told = f"version 1: the answer of Bob (refused: too short) was not used, since it was decided on {history.read().lines[0].time} (promoted)"
    assert (state.name, state.message) == ("Nothing new", told)
    ended = retrain.settle_once(asked[0], late)
    assert (ended.outcome, ended.reason, ended.decision) == ("nothing new", told, None)
    (night,) = retrain_log.last(1)
    assert (night.cause, night.outcome, night.reason) == ("answer of Bob", "nothing new", told)
    assert retrain.settle_once(asked[0], first).outcome == "promoted", "it is the answer that was used"


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
            assert seen == ["waits for approval", True, True]
            assert verdict == ("promoted", "refused")[number]
            assert history.read().decisions[-1].approval == given
            assert asking.champion == "one"
        configure(asking, approval_hours=0.0005)
        asking.night("three", 1.7)
        assert promote() == "refused"
        assert history.read().decisions[-1].reason.startswith("nobody approved it (no answer within 0.0005 h)")
        assert not approval.answer(Approval(approved=True, by="Ann")), "no run waits any more"
        assert not list(approval.ASKED.iterdir())


def test_a_question_whose_answer_came_just_now_is_none(nights, monkeypatch):  # noqa: F811
    nights.night("one", 1.9)
    decision, _ = promotion.judge()
    runs = [SimpleNamespace(id="answered", name="earlier"), SimpleNamespace(id="open", name="other")]
    monkeypatch.setattr(approval, "get_client", lambda **_: nullcontext())
    monkeypatch.setattr(approval, "waiting", lambda client: runs)
    approval.ASKED.mkdir(parents=True)
    assert approval._asked_by(decision) is None
    (approval.ASKED / "open").write_text(decision.content, encoding="utf-8")
    assert approval._asked_by(decision) is runs[1]
