"""People are told what came of a night: by a real Prefect server, a web address and a mail server of this machine."""

import http.server
import json
import queue
import re
import socketserver
import threading
from datetime import UTC, datetime
from email import message_from_string
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed, Running

from flows import automations
from flows.automations import BLOCK, TELLS
from flows.execution import prefect_server
from tasks.core import environment

PATIENCE_S = 120


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps each JSON body that is posted."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.put(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


class Mailbox(socketserver.StreamRequestHandler):
    """Keeps each mail that is sent by plain SMTP."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            command = line.strip().upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.received.put(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 fine\r\n")
            if command == b"QUIT":
                return


def listening(server):
    server.received = queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def hook():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        yield listening(server)
        server.shutdown()


@pytest.fixture
def mailbox():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        yield listening(server)
        server.shutdown()


def ended(name, state):
    """A run of a flow with this name that ends in this state."""

    @flow(name=name)
    def empty():
        pass

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(empty, name=f"tiny · {name} nightly", tags=[prefect_server.TAG])
        client.set_flow_run_state(run.id, Running())
        client.set_flow_run_state(run.id, state)


def kept():
    with get_client(sync_client=True) as client:
        told = {one.name for one in client.read_automations() if one.name.startswith(TELLS)}
        blocks = {one.name for one in client.read_block_documents() if (one.name or "").startswith(BLOCK)}
    return told, blocks


def test_a_night_is_told_to_a_web_address_and_by_mail_and_no_longer_when_nobody_is_named(
    prefect, hook, mailbox, monkeypatch
):
    ports = [server.server_address[1] for server in (hook, mailbox)]
    addresses = f"http://127.0.0.1:{ports[0]}/told mailto://127.0.0.1:{ports[1]}?from=ratchet@here.org&to=team@here.org"
    monkeypatch.setenv(environment.NOTIFY, addresses)
    monkeypatch.setenv(environment.NOTIFY_OF, "refused drifted failed")
    with temporary_settings({PREFECT_API_URL: prefect}):
        for _ in range(2):  # a second `ratchet up` makes nothing twice
            automations.apply_all(automations.notifications())
        events = {f"{TELLS}{event}" for event in ("refused", "drifted", "failed")}
        assert kept() == (events, {f"{BLOCK}-1", f"{BLOCK}-2"})
        ended("pipeline", Failed(message="a part of a night, which tells it itself"))
        ended("retrain", Completed(name="Nothing new"))
        ended("retrain", Completed(name="Refused", message="refused: version 2: general loss is worse"))
        told = hook.received.get(timeout=PATIENCE_S)
        assert told["subject"] == "tiny · retrain nightly: Refused"
        assert "refused: version 2: general loss is worse" in told["text"]
        mail = message_from_string(mailbox.received.get(timeout=PATIENCE_S))
        assert mail["To"] == "team@here.org"
        texts = [part.get_payload(decode=True).decode() for part in mail.walk() if not part.is_multipart()]
        assert any("version 2: general loss is worse" in text for text in texts)
        ended("monitor", Completed(name="Drift", message="mmd of in.jsonl differs"))
        assert "mmd of in.jsonl differs" in hook.received.get(timeout=PATIENCE_S)["text"]
        ended("retrain", Failed(message="stage tune@r0 failed"))
        assert "stage tune@r0 failed" in hook.received.get(timeout=PATIENCE_S)["text"]
        monkeypatch.delenv(environment.NOTIFY)
        automations.apply_all(automations.notifications())
        assert kept() == (set(), set())
    assert hook.received.empty()


@pytest.mark.parametrize(
    ("name", "tag", "are_ours"), [("retrain", "ratchet", True), ("retrain", "etl", False), ("etl", "ratchet", False)]
)
def test_runs_of_other_teams_on_one_server_are_neither_taken_for_dead_nor_reported(name, tag, are_ours):
    related = [
        {"prefect.resource.id": "prefect.flow.1", "prefect.resource.role": "flow", "prefect.resource.name": name},
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"},
    ]
    for automation, kind in (
        (automations._zombies(), "heartbeat"),
        (automations._notification("failed", []), "Failed"),
    ):
        trigger = EventTrigger.model_validate(automation.trigger.model_dump(mode="json", exclude={"id"}))
        event = ReceivedEvent(
            id=uuid4(),
            occurred=datetime.now(UTC),
            event=f"prefect.flow-run.{kind}",
            resource={"prefect.resource.id": "prefect.flow-run.1"},
            related=related,
        )
        assert trigger.covers(event) == are_ours


def test_slack_and_other_addresses_have_prefects_own_blocks(monkeypatch):
    addresses = (
        "https://hooks.slack.com/services/T0/B0/secret",
        "https://chat.example.org/hook",
        "mailtos://user:password@here.org?to=a@b.org",
    )
    monkeypatch.setenv(environment.NOTIFY, " ".join(addresses))
    wanted = automations.notifications()
    assert [block.get_block_type_slug() for block in wanted.blocks] == [
        "slack-webhook",
        "custom-webhook",
        "slack-webhook",
    ]
    assert wanted.blocks[1].url == "{{address}}", "Prefect keeps this field as it is"
    assert wanted.blocks[1]._build_request_args("body", "subject")["url"] == "https://chat.example.org/hook"
    assert wanted.events == tuple(automations.TOLD.split())
    assert not {"secret", "password"} & set(re.findall(r"\w+", str(wanted)))


def test_an_address_that_nobody_can_be_told_at_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv(environment.NOTIFY, "https://fine.example.org pigeon://hunter2@roof")
    with pytest.raises(ValueError, match="RATCHET_NOTIFY: address 2 is neither") as refused:
        automations.notifications()
    assert "hunter2" not in str(refused.value)


def test_an_event_that_there_is_not_is_named_with_those_there_are(monkeypatch):
    monkeypatch.setenv(environment.NOTIFY_OF, "refused exploded")
    with pytest.raises(ValueError, match=r"names exploded, and there is no such event\. There are: promoted, refused"):
        automations.notifications()


def test_a_second_workspace_on_one_server_is_reported(prefect, tmp_path, monkeypatch):
    with temporary_settings({PREFECT_API_URL: prefect}):
        automations.claim()
        automations.claim()
        monkeypatch.chdir(tmp_path.parent)
        with pytest.raises(
            RuntimeError,
            match=rf"has the deployments of another workspace, \S+:{tmp_path}\..*own database or server",
        ):
            automations.claim()
        automations.Variable.unset(automations.OWNER)
