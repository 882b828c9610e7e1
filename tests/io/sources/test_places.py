"""A file elsewhere is fetched once and held to its digest."""

import functools
import hashlib
import http.server
import threading

import pytest

from tasks.io.sources import places
from tests.io.sources import strangers

DIGEST = hashlib.sha256(strangers.LINES).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words):
        pass


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
        ValueError, match=r"gone\.jsonl: it cannot be read: there is no such file, or it is not given to you\."
    ) as error:
        places.download(address.replace("rows", "gone"), tmp_path / "copy")
    assert "secret" not in str(error.value)
