"""Traces for MLflow: the prompts and answers of a model. They are off, unless `RATCHET_TRACES` names the callers to trace."""

import json
import os
from collections.abc import Mapping
from typing import Any

from tasks.core import environment
from tasks.core.text.calls import Call
from tasks.io.runs import run_store

TRACED = ("chat", "serve", "refine")
"""The callers that can be traced: two commands and a stage."""
NANO = 1_000_000_000
SCHEMA = {"mlflow.trace_schema.version": "3"}


def wanted(caller: str) -> bool:
    """Return True if the calls of a command or a stage are traced. Raises ValueError if the environment names an unknown caller."""
    named = os.environ.get(environment.TRACES, "").split()
    if unknown := [name for name in named if name not in TRACED]:
        raise ValueError(
            f"{environment.TRACES} names {', '.join(unknown)}, of which there are no traces. There are: {', '.join(TRACED)}."
        )
    return caller in named


def send(experiment: str, run: str | None, caller: str, identity: str, call: Call) -> None:
    """Send a call to MLflow as a trace with one span, linked to this run if there is one. A call that is sent again is the same trace.

    Raises the errors of a store out of reach. MLflow's own function would only warn, and the trace would be lost. Raises
    NotImplementedError for a server before MLflow 3.4, which accepts no spans.
    """
    from mlflow.entities import Span, TraceData, TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.client import TracingClient
    from mlflow.tracing.utils.truncation import set_request_response_preview

    trace, state = f"tr-{identity}", TraceState.ERROR if call.error else TraceState.OK
    span = Span.from_dict(
        {
            "name": caller,
            "trace_id": trace,
            "span_id": identity[:16],
            "parent_span_id": None,
            "start_time_unix_nano": int(call.began * NANO),
            "end_time_unix_nano": int((call.began + call.seconds) * NANO),
            "status": {"code": state.value, "message": call.error},
            "attributes": {name: json.dumps(value) for name, value in _attributes(trace, call).items()},
        }
    )
    info = TraceInfo(
        trace_id=trace,
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=int(call.began * 1000),
        execution_duration=int(call.seconds * 1000),
        state=state,
        trace_metadata=SCHEMA | ({"mlflow.sourceRun": run} if run else {}),
        tags={"mlflow.traceName": caller},
    )
    set_request_response_preview(info, TraceData([span]))
    client = TracingClient(run_store.uri())
    client.log_spans(experiment, [span])
    client.start_trace(info)


def _attributes(trace: str, call: Call) -> Mapping[str, Any]:
    """Return the attributes of a span, with the names that MLflow's pages use."""
    tokens = {
        "input_tokens": call.tokens_read,
        "output_tokens": call.tokens_written,
        "total_tokens": call.tokens_read + call.tokens_written,
    }
    return {
        "mlflow.traceRequestId": trace,
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.spanInputs": call.asked,
        "mlflow.spanOutputs": call.answered,
        "mlflow.llm.model": call.model,
        **({"mlflow.chat.tokenUsage": tokens} if tokens["total_tokens"] else {}),
    }
