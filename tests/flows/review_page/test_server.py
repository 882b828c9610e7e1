"""The server of the page hears everybody out: large requests, clients that hang, and clients that go away."""

import socket
import time
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from flows.review_page import forms
from tests.flows.review_page.conftest import TOKEN, decided

FORM = {"view": "proposed", "id": "a2", "decision": "accept", "seen": "0", "author": "Ada"}


def connection(address, content):
    """A connection on which this was sent, and nothing after it."""
    place = urlsplit(address)
    opened = socket.create_connection((place.hostname, place.port), timeout=20)
    opened.sendall(content)
    return opened


def head(length):
    lines = (
        f"POST /{TOKEN}/decide HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/x-www-form-urlencoded",
        f"content-length: {length}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_of_ten_megabytes_is_told_so(address, streamed):
    content = urlencode(FORM | {"text": "x" * 10_000_000}).encode()
    answer = httpx.post(f"{address}decide", content=iter([content]) if streamed else content, timeout=60)
    assert answer.status_code == 413
    assert "larger than 2,097,152 bytes. Nothing was decided" in answer.text
    assert httpx.get(address).status_code == 200
    assert decided() == []


def test_a_client_that_hangs_in_its_request_holds_nobody_up(address, monkeypatch):
    monkeypatch.setattr(forms, "UPLOAD_S", 0.5)
    body = urlencode(FORM).encode()
    with connection(address, b""), connection(address, b"POST "), connection(address, head(100) + body[:9]) as hanging:
        assert httpx.get(address).status_code == 200
        answer = b""
        while b"Nothing was decided" not in answer and (part := hanging.recv(4000)):  # head and body may come apart
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 0.5 s. Nothing was decided" in answer
    assert decided() == []


def test_a_client_that_goes_away_in_the_middle_of_an_edit_decides_nothing(address):
    body = urlencode(FORM | {"decision": "edit", "text": "def f():"}).encode()
    connection(address, head(len(body) + 1) + body).close()
    whole = connection(address, head(len(urlencode(FORM))) + urlencode(FORM).encode())
    whole.close()  # it sent all of its decision, and did not wait for the answer
    deadline = time.monotonic() + 20
    while not decided() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [line["decision"] for line in decided()] == ["accept"]
    assert httpx.get(address).status_code == 200
