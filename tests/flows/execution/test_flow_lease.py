"""The lease of a flow: who says something, from whichever thread, is heard in the flow's log."""

from contextvars import ContextVar
from threading import Thread
from types import SimpleNamespace

from prefect.context import TagsContext

from flows.execution import flow_lease, prefect_server

SERVER = ContextVar("server", default="none")
"""In place of Prefect's settings, which are a context variable too."""


def test_a_flow_by_hand_and_a_flow_within_a_flow_have_our_tag(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prefect_server, "find_or_start", lambda: "http://127.0.0.1:9/api")
    monkeypatch.setattr(prefect_server, "is_private", lambda: True)
    monkeypatch.setattr(flow_lease, "_logger", lambda: print)
    for block in (prefect_server.connected(), flow_lease.acquired()):
        with block:
            assert TagsContext.get().current_tags == {prefect_server.TAG}
    assert not TagsContext.get().current_tags


def test_a_line_of_any_thread_is_logged_with_the_settings_of_the_flow(monkeypatch):
    logged = []
    logger = SimpleNamespace(info=lambda line: logged.append((line, SERVER.get())))
    monkeypatch.setattr(flow_lease, "get_run_logger", lambda: logger)
    SERVER.set("the flow's")
    log = flow_lease._logger()
    thread = Thread(target=log, args=("at work",))
    thread.start()
    thread.join()
    log("again")
    assert logged == [("at work", "the flow's"), ("again", "the flow's")]
