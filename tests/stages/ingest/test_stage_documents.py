"""Documents of every format: read = kept + merged + refused, and each file is in a table or in the quarantine by its name."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.records import Document, Refusal
from tasks.io import tables
from tests.io.sources.test_documents import docx, pdf
from tests.stages.ingest.planting import passage
from tests.stages.ingest.running import ingest

BODIES = st.sampled_from(
    ["", " ", "Short.", "\x00", "\ud800", "# a comment", "a@web.de", "<p>Marked up.</p>", passage("long", 1), f"{passage('long', 1)} more"]
) | st.text("ab \n\t\u2028é", max_size=30)  # fmt: skip
WRITERS = {
    "txt": lambda body: body.encode("utf-8", "surrogatepass"),
    "md": lambda body: f"# {body}".encode("utf-8", "surrogatepass"),
    "rst": lambda body: body.encode("utf-16", "surrogatepass"),
    "html": lambda body: f"<html><nav>Menu</nav><p>{body}</p></html>".encode("utf-8", "surrogatepass"),
    "tex": lambda body: f"\\begin{{document}}{body}\\end{{document}}".encode("latin-1", "replace"),
    "docx": lambda body: docx(body.replace("\ud800", "")),
    "pdf": lambda body: pdf("".join(letter for letter in body if letter.isalnum() or letter == " "), ""),
}
SPLITS = ("train", "valid", "test", "gate")


def documents_of(folder):
    return [
        row for split in SPLITS for row in tables.read(folder / f"out/ingested/{split}_documents.parquet", Document)
    ]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(WRITERS)), BODIES), min_size=1, max_size=8), st.lists(BODIES, max_size=5)
)
def test_each_document_of_each_format_is_kept_merged_or_refused(files, rows):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw/texts").mkdir(parents=True)
        bodies = {f"{n}.{ending}": WRITERS[ending](body) for n, (ending, body) in enumerate(files)}
        bodies |= {
            f"filler_{letter}.txt": passage("filler", letter).encode() for letter in "abcdef"
        }  # so that no split is empty
        for file, data in bodies.items():
            (folder / "raw/texts" / file).write_bytes(data)
        (folder / "raw/rows.jsonl").write_text("".join(json.dumps({"text": body}) + "\n" for body in [*rows, "A row."]))
        corpus = [
            {"from": "folder", "path": folder / "raw/texts"},
            {"from": "file", "path": folder / "raw/rows.jsonl", "text": "text"},
        ]
        _, report = ingest(folder, [], corpora={"domain": corpus})
        for balance in report["sources"].values():
            assert balance["read"] == balance["kept"] + balance["merged"] + sum(balance["refused"].values())
        assert [balance["read"] for balance in report["sources"].values()] == [len(bodies), len(rows) + 1]
        kept = {row.source.removeprefix("folder texts: ").split(" (")[0] for row in documents_of(folder)}
        refused = tables.read(folder / "out/ingested/quarantine.parquet", Refusal)
        named = {part for row in refused for part in row.where.split()} | {row.where.split(" (")[0] for row in refused}
        assert {file for file in bodies if file not in kept and not any(file in part for part in named)} == set()
        assert all(row.reason and row.where for row in refused)


def test_a_document_with_text_on_some_of_its_pages_says_on_how_many(tmp_path):
    folder = tmp_path / "raw/texts"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.pdf").write_bytes(pdf(passage("whole", number)))
    (folder / "half.pdf").write_bytes(pdf(passage("half", 0), ""))
    (folder / "none.pdf").write_bytes(pdf("", ""))
    _, report = ingest(tmp_path, [], corpora={"domain": [{"from": "folder", "path": folder}]})
    assert {row.source for row in documents_of(tmp_path) if "(" in row.source} == {
        "folder texts: half.pdf (text on 1 of 2 pages)"
    }
    (refusal,) = tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)
    assert "none.pdf" in refusal.where
    assert "none of its 2 pages holds text" in refusal.detail
    assert report["sources"]["domain: folder texts"] == {
        "read": 8, "kept": 7, "merged": 0, "refused": {"unreadable file": 1},
    }  # fmt: skip


def test_a_document_with_zeros_or_torn_text_is_refused_by_name(tmp_path):
    folder = tmp_path / "raw/texts"
    folder.mkdir(parents=True)
    for letter in "abcdef":
        (folder / f"filler_{letter}.txt").write_text(passage("filler", letter))
    (folder / "zeros.md").write_bytes(passage("zeros", 1).encode() + b"\0world")
    (folder / "one_sign.md").write_text(f"{passage('sign', 1) * 30} \ufffd")
    (folder / "torn.md").write_text("\ufffd".join(passage("torn", 2)))
    source = {"from": "folder", "path": folder, "license": "MIT"}
    (tmp_path / "raw/rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n * n}."}) + "\n" for n in range(30))
    )
    ingest(tmp_path, [{"from": "file", "path": tmp_path / "raw/rows.jsonl"}], corpora={"domain": [source]})
    refused = {row.where for row in tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)}
    assert sorted(name.split("/")[-1].split()[-1] for name in refused) == ["torn.md", "zeros.md"]
    assert any("one_sign" in row.source for row in documents_of(tmp_path))
