"""A document is extracted once, for as long as its contents and what extracts them stay the same."""

import pytest

from tasks.core.text.texts import apply_here
from tasks.io.sources import text, text_cache
from tasks.io.sources.record import UnreadableError
from tasks.io.sources.text_cache import TextCache
from tasks.io.system.workers import Workers


@pytest.fixture
def extracted(monkeypatch):
    """The files that were extracted."""
    files, plain = [], text.running_text
    monkeypatch.setattr(text, "running_text", lambda file: files.append(file.name) or plain(file))
    return files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.html").write_bytes("<p>Größe über ältere Öfen</p>\n<p>Grüße für Übermut</p>".encode("latin-1"))
    (tmp_path / "b.md").write_text("# Title\x0c")
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.7\nno more")
    return tmp_path


def read(cache, folder):
    texts = {}
    for file in sorted(folder.glob("?.*")):
        try:
            texts[file.name] = cache.read(file)
        except UnreadableError as error:
            texts[file.name] = str(error)
    return texts


def test_an_unchanged_folder_is_not_extracted_anew(folder, extracted, tmp_path):
    first = read(TextCache(tmp_path / "cache"), folder)
    assert first["a.html"] == ("Größe über ältere Öfen\n\nGrüße für Übermut", "cp1252")
    assert first["b.md"] == ("# Title\x0c", "")
    assert "not a readable PDF" in first["c.pdf"]
    assert extracted == ["a.html", "b.md", "c.pdf"]
    assert read(TextCache(tmp_path / "cache"), folder) == first
    assert len(extracted) == 3


def test_what_changed_is_extracted_alone(folder, extracted, tmp_path):
    cache = TextCache(tmp_path / "cache")
    read(cache, folder)
    (folder / "b.md").write_text("# Another title")
    (folder / "b.md").rename(folder / "d.md")
    assert read(cache, folder)["d.md"] == ("# Another title", "")
    assert extracted[3:] == ["d.md"]


def test_another_version_of_a_library_extracts_anew(folder, extracted, tmp_path, monkeypatch):
    read(TextCache(tmp_path / "cache"), folder)
    monkeypatch.setattr(text_cache, "_version", lambda: ["another"])
    read(TextCache(tmp_path / "cache"), folder)
    assert len(extracted) == 6


def test_a_text_that_was_cut_off_is_extracted_anew_and_unused_ones_are_forgotten(folder, extracted, tmp_path):
    first = read(TextCache(tmp_path / "cache"), folder)
    for kept in (tmp_path / "cache").glob("*/*"):
        kept.write_bytes(kept.read_bytes()[:5])
    (folder / "c.pdf").unlink()
    cache = TextCache(tmp_path / "cache")
    assert read(cache, folder) == {name: body for name, body in first.items() if name != "c.pdf"}
    assert extracted[3:] == ["a.html", "b.md"]
    cache.forget_unused()
    assert len(list((tmp_path / "cache").glob("*/*"))) == 2


def test_texts_that_are_not_kept_are_extracted_ahead(folder, extracted, tmp_path):
    documents = sorted(folder.glob("?.*"))
    cache = TextCache(tmp_path / "cache")
    assert cache.pending(documents) == documents
    assert list(cache.extract(documents, apply_here)) == documents
    (folder / "b.md").write_text("# Another title")
    assert cache.pending(documents) == [folder / "b.md"]
    assert read(cache, folder)["a.html"] == ("Größe über ältere Öfen\n\nGrüße für Übermut", "cp1252")
    assert extracted == ["a.html", "b.md", "c.pdf", "b.md"]


def test_other_processes_extract_the_same_texts(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "BYTES", 1)
    for number in range(16):
        (folder / f"{number}.html").write_text(f"<p>Page {number}</p>")
    documents = sorted(folder.glob("*.*"))
    with Workers(2) as workers:
        assert list(TextCache(tmp_path / "apart").extract(documents, workers.apply)) == documents
    assert list(TextCache(tmp_path / "here").extract(documents, apply_here)) == documents
    kept = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*/*")} for name in ("apart", "here")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == len(documents)
