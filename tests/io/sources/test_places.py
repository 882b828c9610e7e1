"""A file elsewhere is fetched once and held to its digest."""

import functools
import hashlib
import http.server
import re
import threading

import pytest

from tasks.io.sources import places
from tests.io.sources import strangers

DIGEST = hashlib.sha256(strangers.LINES).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words):
        pass

    def do_GET(self):  # HEAD tells nothing of it
        status = re.search(r"status=(\d+)", self.path)
        if status is None:
            super().do_GET()
            return
        self.send_response(int(status[1]))
        self.send_header("Location", "ftp://me:secret@elsewhere/rows.jsonl?key=secret")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served").mkdir()
    (tmp_path / "served/rows.jsonl").write_bytes(strangers.LINES)
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/rows.jsonl?key=secret"
        server.shutdown()


def test_a_file_is_fetched_once(address, tmp_path):
    file = places.fetched(address, DIGEST)
    assert file.name == "rows.jsonl"
    assert file.read_bytes() == strangers.LINES
    (tmp_path / "served/rows.jsonl").unlink()
    assert places.fetched(address, DIGEST) == file


def test_another_digest_is_refused_and_nothing_stays(address, tmp_path):
    with pytest.raises(ValueError, match=rf"rows\.jsonl: its SHA-256 is {DIGEST}, params.yaml asks for 0000") as error:
        places.fetched(address, "0" * 64)
    assert "secret" not in str(error.value)
    assert [file for file in (tmp_path / ".ratchet").rglob("*") if file.is_file()] == []


def test_what_is_not_there_is_named(address, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jsonl: it cannot be read"):
        places.fetched(address.replace("rows", "gone"), DIGEST)
    with pytest.raises(ValueError, match=r"gone\.jsonl: it cannot be read"):
        places.fetched((tmp_path / "gone.jsonl").as_uri(), DIGEST)
    with pytest.raises(
        ValueError, match=r"gone\.jsonl: it cannot be read: there is no such file, or you have no access to it\."
    ) as error:
        places.download(address.replace("rows", "gone"), tmp_path / "copy")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the server answers 401"),
        (403, "the server answers 403"),
        (500, "the server answers 500"),
        (302, "ftp://me:***@elsewhere/rows.jsonl"),
    ],
)
def test_no_reason_has_the_keys_of_an_address(address, tmp_path, status, reason):
    with pytest.raises(ValueError, match=r"rows\.jsonl: it cannot be read") as error:
        places.download(f"{address}&status={status}", tmp_path / "copy")
    assert f": {reason}. " in str(error.value)
    assert "secret" not in str(error.value)
