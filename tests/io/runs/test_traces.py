"""Traces reach MLflow with what was asked and answered, where they are on; an outage costs nothing."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks.core.records import Message
from tasks.core.text.calls import Call
from tasks.core.text.writing import Answer, call
from tasks.io.runs import run_store, spool_uploader, traces, tracking
from tests.io.runs.conftest import AWAY, in_store

ROOT = Path(__file__).resolve().parents[3]
ASKED = [Message("system", "Be brief."), Message("user", "Héllo?")]
CALL = call("r0", ASKED, Answer("Yes.", tokens_read=7, tokens_written=2, began=1_790_000_000.25, seconds=1.5))


@pytest.fixture(autouse=True)
def _no_uploader(monkeypatch):
    """The tests say when spools are carried."""
    monkeypatch.setattr(spool_uploader, "start", lambda: None)
    monkeypatch.setattr(spool_uploader, "LINGER_S", 0.0)


def test_a_call_is_a_trace_with_its_span(store):
    recorder = tracking.Traces("chat")
    recorder.record(CALL)
    recorder.end()
    spool_uploader.upload()
    (trace,) = in_store(store)
    (span,) = trace.data.spans
    assert (span.name, span.span_type, span.parent_id) == ("chat", "CHAT_MODEL", None)
    assert span.inputs == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Héllo?"}]
    }
    assert span.outputs == {"choices": [{"message": {"role": "assistant", "content": "Yes."}}]}
    assert span.attributes["mlflow.llm.model"] == "r0"
    assert (trace.info.request_time, trace.info.execution_duration) == (1_790_000_000_250, 1500)
    assert (trace.info.request_preview, trace.info.response_preview) == ("Héllo?", "Yes.")
    assert trace.info.token_usage == {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
    assert trace.info.state == "OK"
    assert "mlflow.sourceRun" not in trace.info.trace_metadata
    assert list(run_store.SPOOL.glob("*.jsonl")) == []


def test_a_call_that_failed_is_told_with_its_reason(store):
    recorder = tracking.Traces("serve")
    recorder.record(Call("ratchet@3", {"prompt": "x"}, {}, 1e9, 0.1, error="it ended"))
    recorder.end()
    spool_uploader.upload()
    (trace,) = in_store(store)
    assert trace.info.state == "ERROR"
    assert trace.data.spans[0].status.description == "it ended"
    assert trace.info.token_usage is None


def test_the_call_of_a_run_is_a_trace_of_it(store):
    run = tracking.Recorder("refine@r1")
    run.trace("refine", CALL)
    run.end("FINISHED")
    spool_uploader.upload()
    (trace,) = in_store(store)
    client, experiment = run_store.connect()
    assert trace.info.trace_metadata["mlflow.sourceRun"] == run_store.find(client, experiment, run.id)


def test_what_was_recorded_while_mlflow_was_away_is_sent_later_and_once_and_told_once(store, monkeypatch, capsys):
    recorder = tracking.Traces("chat")
    with monkeypatch.context() as patch:
        for name, value in AWAY.items():
            patch.setenv(name, value)
        recorder.record(CALL)
        spool_uploader.deliver()
        recorder.record(CALL)
        recorder.record(CALL)
        assert capsys.readouterr().out.count("does not answer") == 1
    spool_uploader.deliver()
    (path,) = run_store.SPOOL.glob("*.jsonl")
    path.with_suffix(".sent").write_text(json.dumps({"line": 0, "run": None}))  # as if it had been killed before this
    recorder.end()
    spool_uploader.upload()
    assert len(in_store(store)) == 3


def test_a_long_lived_process_begins_another_spool(store, monkeypatch):
    monkeypatch.setattr(tracking, "LARGEST", 1)
    recorder = tracking.Traces("serve")
    recorder.record(CALL)
    recorder.record(CALL)
    assert len(list(run_store.SPOOL.glob("*.jsonl"))) == 2
    recorder.end()
    spool_uploader.upload()
    assert len(in_store(store)) == 2


@pytest.mark.parametrize(("named", "expected"), [(None, ()), ("", ()), ("serve chat", ("chat", "serve"))])
def test_only_those_are_traced_that_are_named(monkeypatch, capsys, named, expected):
    monkeypatch.delenv("RATCHET_TRACES", raising=False)
    if named is not None:
        monkeypatch.setenv("RATCHET_TRACES", named)
    assert tuple(caller for caller in traces.TRACED if tracking.traces(caller)) == expected
    assert capsys.readouterr().out.count("are sent to MLflow") == len(expected)
    assert not run_store.SPOOL.exists()


def test_a_name_without_traces_is_reported(monkeypatch):
    monkeypatch.setenv("RATCHET_TRACES", "chat server")
    with pytest.raises(ValueError, match=r"RATCHET_TRACES names server, .*There are: chat, serve, refine"):
        traces.wanted("chat")


def test_a_stage_records_traces_only_if_it_is_named(monkeypatch):
    from tasks.runner import StageRun

    for named, kinds in (("refine", ["start", "trace"]), ("chat", ["start"])):
        monkeypatch.setenv("RATCHET_TRACES", named)
        recorder = tracking.Recorder("refine@r1")
        StageRun("refine", "r1", "0" * 64, recorder).trace(CALL)
        assert [json.loads(line)["kind"] for line in recorder._path.read_text().splitlines()] == kinds
        recorder.end("FINISHED")


def test_who_records_needs_no_mlflow():
    script = (
        "import sys; import flows.gateway.server; from tasks.io.runs import tracking; "
        "tracking.spool_uploader.start = lambda: None; traces = tracking.Traces('serve'); "
        "from tests.io.runs.test_traces import CALL; traces.record(CALL); traces.end(); "
        "sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT)}, check=False).returncode == 0


def test_a_server_that_takes_no_traces_is_told_with_the_number_of_those_that_are_lost(monkeypatch, caplog):
    def refused(*_):
        raise NotImplementedError

    monkeypatch.setattr(traces, "send", refused)
    event = {"kind": "trace", "caller": "chat", "id": "1" * 32, "call": asdict(CALL)}
    spool_uploader._send_traces("0", None, [event, {"kind": "metric"}, event])
    assert "2 calls of models are in no trace" in caplog.text
    caplog.clear()
    spool_uploader._send_traces("0", None, [{"kind": "metric"}])
    assert not caplog.text
