"""Logs that are added to, and do not grow for ever."""

from tasks.io.system import logs


def test_a_log_is_added_to_and_begun_anew_once_it_is_long(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LIMIT", 10)
    path = tmp_path / "logs/one.log"

    def say(text):
        with logs.append(path) as log:
            log.write(text)

    say(b"12345")
    say(b"67890!")
    assert path.read_bytes() == b"1234567890!"
    say(b"anew")
    assert path.read_bytes() == b"anew"
    assert path.with_suffix(".old").read_bytes() == b"1234567890!"
