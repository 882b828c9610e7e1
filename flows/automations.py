"""Define the automations of a workspace's Prefect server: one marks dead runs, the others notify people about the outcome of a night.

RATCHET_NOTIFY holds the addresses to notify, separated by spaces: an incoming webhook of Slack, any other web address, which gets JSON,
or an address of Apprise (https://appriseit.com), such as `mailtos://user:password@example.org?to=team@example.org` for mail. Addresses
hold passwords, so they are read from the environment, and Prefect encrypts them. RATCHET_NOTIFY_OF holds the events to notify about.
`ratchet up` creates the automations; `python -m flows.automations` creates them on the server that PREFECT_API_URL names.
"""

import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import get_current_settings
from prefect.types import SecretDict
from prefect.variables import Variable
from pydantic import SecretStr

from flows.execution import prefect_server
from flows.monitor import NAMES as ENDS_OF_MONITOR
from flows.retrain import NAMES as ENDS_OF_RETRAIN
from tasks.core import environment

ZOMBIES = "Flow runs without a heartbeat have crashed"
BEATS = 4
"""Heartbeats that may be missed before a run counts as dead."""
OWNER = "ratchet_workspace"
"""Prefect's variable that holds the host and folder of the workspace whose deployments a server has."""
TELLS = "Ratchet tells: "
"""Prefix of the automations that notify."""
BLOCK = "ratchet-notify"
NIGHTS = ("retrain", "promote")
EVENTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "promoted": (NIGHTS, ("Promoted",)),
    "refused": (NIGHTS, ("Refused",)),
    "undecided": (NIGHTS, ("Not decided",)),
    "asked": (NIGHTS, ("Paused",)),
    "drifted": (("monitor",), ("Drift",)),
    "failed": ((*NIGHTS, "monitor"), ("Failed", "Crashed", "TimedOut")),
}
"""Event → the flows that it is about, and the states of their runs that trigger it."""
TOLD = "promoted refused asked drifted failed"
"""The events that are notified about by default."""
WEB = re.compile(r"https?://")
SLACK = re.compile(r"https://hooks\.slack(-gov)?\.com/")
SUBJECT = "{{ flow_run.name }}: {{ flow_run.state.name }}"
BODY = "{{ flow_run.state.message }}\n\n{{ flow_run|ui_url }}"


@dataclass(frozen=True)
class Notifications:
    """The addresses to notify, and the events to notify them about."""

    blocks: tuple[NotificationBlock, ...]
    events: tuple[str, ...]

    def __str__(self) -> str:
        kinds = ", ".join(block.get_block_type_slug() for block in self.blocks)
        return (
            f"{', '.join(self.events)}, to {kinds}" if self.blocks else f"none, since {environment.NOTIFY} is not set"
        )


def notifications() -> Notifications:
    """Return what the environment asks for. Raises ValueError, which names an address by its number, as it may hold a password."""
    addresses = os.environ.get(environment.NOTIFY, "").split()
    events = os.environ.get(environment.NOTIFY_OF, TOLD).split()
    if unknown := [event for event in events if event not in EVENTS]:
        raise ValueError(
            f"{environment.NOTIFY_OF} names {', '.join(unknown)}, and there is no such event. There are: {', '.join(EVENTS)}."
        )
    blocks = (_block(number, address) for number, address in enumerate(addresses, 1))
    return Notifications(tuple(blocks), tuple(events))


def apply_all(wanted: Notifications) -> None:
    """Make the server's automations and blocks those that are wanted; calling it again changes nothing.

    An existing automation is updated rather than replaced: a new one would not know which runs it is already watching.
    """
    _apply(_zombies())
    blocks = [_saved(number, block) for number, block in enumerate(wanted.blocks, 1)]
    notifications = [_notification(event, blocks) for event in wanted.events] if blocks else []
    for automation in notifications:
        _apply(automation)
    _remove_others({automation.name for automation in notifications}, len(blocks))


def claim() -> None:
    """Mark a server as that of this workspace. Raises RuntimeError if it is another's: their deployments have the same names."""
    place = f"{socket.gethostname()}:{Path.cwd()}"
    owner = Variable.get(OWNER, default=None)
    if owner not in (None, place):
        raise RuntimeError(
            f"this Prefect server has the deployments of another workspace, {owner}. Each workspace needs its own database or server "
            f"(PREFECT_SERVER_DATABASE_CONNECTION_URL). If {owner} is this workspace before it moved: prefect variable unset {OWNER}"
        )
    if owner is None:
        Variable.set(OWNER, place)


def _block(number: int, address: str) -> NotificationBlock:
    if SLACK.match(address):
        return SlackWebhook(url=SecretStr(address))
    if WEB.match(address):
        payload = {"subject": "{{subject}}", "text": "{{subject}}\n{{body}}"}
        secrets = SecretDict({"address": address})  # Prefect stores `url` as plain text, and encrypts these
        return CustomWebhookNotificationBlock(
            name=f"{BLOCK}-{number}", url="{{address}}", json_data=payload, secrets=secrets
        )
    from apprise import Apprise

    if Apprise.instantiate(address) is None:
        raise ValueError(
            f"{environment.NOTIFY}: address {number} is neither a web address nor one of Apprise. Mail is mailto://HOST?from=…&to=… or "
            "mailtos://USER:PASSWORD@HOST?to=…; https://appriseit.com/services has the others."
        )
    # Prefect has no block for mail by SMTP; the Slack block hands any address to Apprise unchanged.
    return SlackWebhook(url=SecretStr(address))


def _saved(number: int, block: NotificationBlock) -> UUID:
    document = block.save(f"{BLOCK}-{number}", overwrite=True)
    assert isinstance(document, UUID)
    return document


def _notification(event: str, blocks: Iterable[UUID]) -> AutomationCore:
    flows, states = EVENTS[event]
    return AutomationCore(
        name=f"{TELLS}{event}",
        description=f"Notifies the addresses in {environment.NOTIFY}: a run of {', '.join(flows)} is {', '.join(states)}.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in states},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related=_ours(flows),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block, subject=SUBJECT, body=BODY) for block in blocks],
    )


def _remove_others(names: set[str], blocks: int) -> None:
    """Remove the automations and blocks that earlier settings asked for."""
    with get_client(sync_client=True) as client:
        for automation in client.read_automations():
            if automation.name.startswith(TELLS) and automation.name not in names:
                client.delete_automation(automation.id)
        wanted = {f"{BLOCK}-{number}" for number in range(1, blocks + 1)}
        for document in client.read_block_documents():
            if (document.name or "").startswith(f"{BLOCK}-") and document.name not in wanted:
                client.delete_block_document(document.id)


def _zombies() -> AutomationCore:
    beat = get_current_settings().flows.heartbeat_frequency
    assert beat, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY is set in flows/__init__.py"
    heartbeat = "prefect.flow-run.heartbeat"
    names = (*ENDS_OF_MONITOR, *ENDS_OF_RETRAIN)
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", *names)}
    return AutomationCore(
        name=ZOMBIES,
        description=f"A run sends a heartbeat every {beat} s; after {BEATS} missed ones it is marked as crashed.",
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *ends},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related=_ours(("pipeline", "retrain", "monitor", "promote")),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=BEATS * beat),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message="Its process is gone: no heartbeat came any more.")
        ],
    )


def _ours(flows: Iterable[str]) -> list[ResourceSpecification]:
    """Return the resources that runs of our own flows are related to: by name alone, flows of other teams would match too."""
    flow = {"prefect.resource.role": ["flow"], "prefect.resource.name": list(flows)}
    tag = {"prefect.resource.id": [f"prefect.tag.{prefect_server.TAG}"]}
    return [ResourceSpecification(flow), ResourceSpecification(tag)]


def _apply(wanted: AutomationCore) -> None:
    known = _read(wanted.name)
    if known is None:
        Automation(**wanted.model_dump()).create()
    elif known.model_dump(include=set(AutomationCore.model_fields)) != wanted.model_dump():
        Automation(id=known.id, **wanted.model_dump()).update()


def _read(name: str) -> Automation | None:
    try:
        automation = Automation.read(name=name)
    except ValueError:  # what Prefect raises where there is none
        return None
    assert isinstance(automation, Automation)
    return automation


if __name__ == "__main__":
    claim()
    apply_all(notifications())
