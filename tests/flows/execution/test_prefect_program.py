"""Ratchet's Prefect servers start programs and keep secrets, and ask for no password: pages of other sites reach none of it."""

import httpx
import pytest
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, PREFECT_SERVER_CORS_ALLOWED_ORIGINS, temporary_settings
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.execution import ports, prefect_program, prefect_server, supervisor

EVIL = "https://evil.example"
QUESTION = "block_documents/filter"


def test_a_page_of_another_site_reaches_neither_secrets_nor_deployments(prefect):
    def status(method="POST", path=QUESTION, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(method, f"{prefect}/{path}", content=b"{}", headers=names).status_code

    own = prefect.removesuffix("/api").replace(ports.HOST, "localhost")
    assert status() == status(origin=own, sec_fetch_site="cross-site") == 200
    for headers in (
        {"origin": EVIL},
        {"origin": "null"},
        {"host": "evil.example:4200"},
        {"sec_fetch_site": "cross-site"},
    ):
        assert status(**headers) == status("GET", "health", **headers) == 403, headers
    assert status("POST", "variables/", origin=EVIL) == 403
    assert status("GET", "health", sec_fetch_site="cross-site", sec_fetch_dest="document") == 200, "a link in a message"
    asked = {"access-control-request-method": "POST"}
    assert (
        "access-control-allow-origin"
        not in httpx.options(f"{prefect}/{QUESTION}", headers=asked | {"origin": EVIL}).headers
    )
    events = f"ws{prefect.removeprefix('http')}/events/out"
    with connect(events, origin=own, subprotocols=["prefect"]), pytest.raises(InvalidStatus, match="HTTP 403"):
        connect(events, origin=EVIL, subprotocols=["prefect"])


@pytest.mark.parametrize(
    ("settings", "answered"),
    [
        ({}, {200}),  # Prefect's own default, which Ratchet's servers do not have
        ({PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "http://127.0.0.1:4200"}, {403}),
        ({PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "https://other.example, https://team.example"}, {200}),
        ({PREFECT_SERVER_API_AUTH_STRING: "me:secret", PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "http://127.0.0.1:4200"}, {200}),
    ],
)  # fmt: skip
def test_the_owner_of_a_server_may_put_it_behind_a_proxy(settings, answered):
    with temporary_settings(settings):
        client = TestClient(prefect_program._guarded(PlainTextResponse("Prefect")), base_url="http://localhost")
    behind = ({"host": "team.example"}, {"origin": "https://team.example"})
    assert {client.get("/", headers=headers).status_code for headers in behind} == answered
    assert client.get("/").status_code == 200


def test_a_server_answers_its_own_pages_alone_unless_its_owner_says_otherwise(monkeypatch):
    def start(_command, env, **_options):
        given.append(env.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS"))
        assert env["PREFECT_SERVER_API_PORT"] == "4300", "the port that pages take for the API's"
        raise InterruptedError

    given = []
    monkeypatch.setattr(supervisor, "start", start)
    for settings in ({}, {PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "*"}):
        with temporary_settings(settings), pytest.raises(InterruptedError):
            prefect_server.start(4300, ui=True)
    assert given == ["http://127.0.0.1:4300,http://localhost:4300", None]
