"""The corpora that the stage writes: texts, modules, pages, and what may not be in them."""

import pytest

from tasks.core.records import Document
from tasks.io import tables
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import Folder, IngestConfig
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading.documents import read_documents
from tests.stages.ingest.planting import page, passage
from tests.stages.ingest.running import examples_of, ingest


def test_a_corpus_without_a_held_out_text_is_refused(tmp_path, rows):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "only.txt").write_text("One text alone.")
    with pytest.raises(ValueError, match=r"ingest.corpora.domain: no text is left for test"):
        ingest(tmp_path, [{"from": "file", "path": rows}], corpora={"domain": [{"from": "folder", "path": folder}]})


def test_a_long_text_alone_is_cut_into_parts_that_are_held_out_one_by_one(tmp_path, rows):
    text = tmp_path / "manual.md"
    text.write_text("\n\n".join(passage("alone", number) for number in range(40)))
    examples = [{"from": "file", "path": rows}]
    corpora = {"domain": [{"from": "folder", "path": text}], "piece_chars": 1000}
    run, report = ingest(tmp_path, examples, corpora=corpora)
    kept = {
        split: tables.read(tmp_path / "out" / "ingested" / f"{split}_documents.parquet", Document)
        for split in ("train", "valid", "test")
    }
    groups = {row.group: split for split, documents in kept.items() for row in documents}
    assert {"train", "test"} <= set(groups.values())
    assert len(groups) == sum(map(len, kept.values())) == 8
    assert set(groups) == {f"manual.md/manual.md §{number}" for number in range(1, 9)}
    (caveat,) = [line for line in report["caveats"] if "too few texts" in line]
    assert "ingest.corpora.domain: too few texts to hold one out (1). They are cut into 8 parts" in caveat
    assert caveat in run.said
    assert report["sources"]["domain: folder manual.md"]["read"] == 8


def test_three_texts_are_not_cut_before_the_split(tmp_path, rows):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.md").write_text("\n\n".join(passage(f"text {number}", part) for part in range(12)))
    examples = [{"from": "file", "path": rows}]
    _, report = ingest(
        tmp_path, examples, corpora={"domain": [{"from": "folder", "path": folder}], "piece_chars": 1000}
    )
    kept = {
        split: tables.read(tmp_path / "out" / "ingested" / f"{split}_documents.parquet", Document)
        for split in ("train", "valid", "test")
    }
    groups = {split: {row.group for row in documents} for split, documents in kept.items()}
    assert sorted(groups["train"] | groups["valid"] | groups["test"]) == [f"texts/{number}.md" for number in range(3)]
    assert sum(map(len, groups.values())) == 3
    assert not [line for line in report["caveats"] if "too few texts" in line]


def test_a_corpus_without_a_text_for_the_gate_is_refused_if_there_is_to_be_one():
    documents = [
        Sourced("code", Document(split, "text", "domain", split, split, split, "MIT")) for split in ("train", "test")
    ]
    source = {"from": "folder", "path": "texts"}
    for gate in (0.0, 0.1):
        config = IngestConfig.model_validate(
            {"sources": [source], "corpora": {"domain": [source]}, "splits": {"gate": gate}}
        )
        if gate:
            with pytest.raises(ValueError, match=r"ingest.corpora.domain: no text is left for gate"):
                stage.check_corpora(documents, config)
        else:
            stage.check_corpora(documents, config)
    named = IngestConfig.model_validate({"corpora": {"domains": {"law": [source]}}})
    with pytest.raises(ValueError, match=r"ingest.corpora.domains.law: no text is left for train and test"):
        stage.check_corpora(documents, named)


def test_text_alone_is_split_by_file_and_leaves_empty_tables_of_examples(tmp_path):
    for manual in ("diameter", "megaco", "snmp"):
        for number in range(8):
            page(tmp_path / "raw" / manual, number)
    corpora = {"domain": [{"from": "folder", "path": tmp_path / "raw"}], "general": [{"from": "topics"}]}
    run, report = ingest(tmp_path, [], corpora=corpora | {"max_chars": 20_000})
    assert examples_of(tmp_path) == {"train": [], "valid": [], "test": [], "benchmark": []}
    assert report["splits"] == report["domains"] == report["licenses"] == {}
    assert run.said[-1].startswith("examples: none\n")

    ingested = tmp_path / "out" / "ingested"
    kept = {
        split: tables.read(ingested / f"{split}_documents.parquet", Document) for split in ("train", "valid", "test")
    }
    groups = {split: {row.group for row in rows if row.domain == "domain"} for split, rows in kept.items()}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 24


def test_texts_of_several_domains_are_kept_under_their_names(tmp_path):
    for manual in ("diameter", "megaco"):
        for number in range(8):
            page(tmp_path / "raw" / manual, number)
    folders = {manual: [{"from": "folder", "path": tmp_path / "raw" / manual}] for manual in ("diameter", "megaco")}
    _, report = ingest(tmp_path, [], corpora={"domain": folders["diameter"], "domains": {"ip": folders["megaco"]}})
    for split in ("train", "test"):
        rows = tables.read(tmp_path / "out/ingested" / f"{split}_documents.parquet", Document)
        assert {(row.domain, row.group.split("/")[0]) for row in rows} == {("domain", "diameter"), ("ip", "megaco")}
        assert {row.corpus for row in rows} == {"domain"}
        assert report["corpora"][f"ip {split}"]["documents"] == sum(row.domain == "ip" for row in rows)


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        ({"general": [{"from": "topics"}]}, "`domains` has 'general', which is a list of its own: `corpora.general`"),
        ({"law": []}, "`domains` has 'law' with 0 sources"),
    ],
)
def test_domains_that_are_none_are_refused(domains, message):
    with pytest.raises(ValueError, match=message):
        IngestConfig.model_validate({"corpora": {"domains": domains}})


def test_the_furniture_of_pages_is_removed_and_their_text_is_not(tmp_path):
    for manual, size in (("diameter", 3), ("megaco", 4), ("snmp", 9)):  # less than half of the pages, and more
        for number in range(size):
            page(tmp_path / "raw" / manual, number)
    folder = Folder.model_validate({"from": "folder", "path": tmp_path / "raw"})
    texts = {document.source: document.text for document in read_documents(folder, "domain")}
    assert len(texts) == 16
    for path, text in texts.items():
        manual, number = path.removeprefix("folder raw: ").split("/")[0], int(path.removesuffix(".html")[-1])
        assert text.split("\n") == [f"Chapter {number}", "", passage(manual, number), "", f"ok = start({number})."]


def test_texts_have_shares_of_their_own(tmp_path, rows):
    for number in range(40):
        page(tmp_path / "raw", number)
    texts = [{"from": "folder", "path": tmp_path / "raw"}]
    few = {"valid": 0.05, "test": 0.1}
    ingest(tmp_path, [{"from": "file", "path": rows}], corpora={"domain": texts, "splits": few}, splits={"test": 0.5})
    tests = {
        "documents": tables.read(tmp_path / "out/ingested/test_documents.parquet", Document),
        "examples": examples_of(tmp_path)["test"],
    }
    everything = {"documents": 40, "examples": sum(map(len, examples_of(tmp_path).values()))}
    shares = {kind: len(some) / everything[kind] for kind, some in tests.items()}
    assert shares["documents"] == pytest.approx(0.1, abs=0.05)
    assert shares["examples"] == pytest.approx(0.5, abs=0.1)


def test_a_gate_of_examples_without_one_of_texts_is_refused():
    corpora = {"general": [{"from": "topics"}], "splits": {"test": 0.2}}
    source = {"from": "folder", "path": "texts"}
    with pytest.raises(ValueError, match=r"`corpora.splits` has gate: 0 and `splits` has gate: 0.1"):
        IngestConfig.model_validate({"sources": [source], "corpora": corpora, "splits": {"gate": 0.1}})
