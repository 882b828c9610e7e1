"""Stored sequences are those that are made in memory, and they are tokenised anew only where they would come out otherwise."""

import shutil
from dataclasses import replace

import pytest
import torch

from tasks.core.records import Document, Example, FaultPair
from tasks.engine import encode, tokenized
from tasks.engine.encode import DocumentEncoder, ExampleEncoder
from tasks.engine.packing import collate, schedule
from tasks.engine.sequences import listed
from tasks.io import tables
from tasks.stages.fetch.random_init import byte_tokenizer
from tests import tiny as small
from tests.methods.contract import part
from tests.support import ScratchRun

TOKENIZER = byte_tokenizer()
PROGRAM = "```python\nx = {}\n```"
ROWS = [
    small.example(
        n,
        prompt=f"Is {n} a number?",
        response=PROGRAM.format(n) if n % 9 else "long " * 200,
        rejected=PROGRAM.format("y"),
        domain="odd" if n % 2 else "even",
        task=f"task {n % 3}",
        weights=[0.5, 0.25] * (len(PROGRAM.format(n)) // 2) if n % 9 and n % 2 else None,
    )
    for n in range(40)
]
FAULTS = [
    FaultPair(f"f{row.id}", row.id, f"x = {n}", "x = y", "mutation", "", True, "", 1.0, 1, 0.1, [0], [[4, 5]], [0], [[4, 5]], [])
    for n, row in enumerate(ROWS)
    if n % 3 == 0 and n % 9
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, tiny):
    """Tables of examples and faults, and a model's folder with its tokenizer."""
    tables.write(tmp_path / "examples.parquet", ROWS, Example)
    tables.write(tmp_path / "faults.parquet", FAULTS, FaultPair)
    shutil.copytree(tiny, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path


def encoder(objective="cross_entropy", pack_tokens=128, **settings):
    chosen = part("objectives", objective, **settings)
    table = FAULTS if chosen.spec.table else ()
    return ExampleEncoder(TOKENIZER, pack_tokens, "all", objective=chosen, rows_of_table=table)


def stored(folder, encoder, run=None):
    run, table = run or ScratchRun(folder), encoder.rows_of_table and folder / "faults.parquet"
    return tokenized.stored_examples(
        folder / "examples.parquet", folder / "model", encoder, run, "tune r0", table or None
    )


def stores(folder):
    return sorted(path.name for path in (folder / "cache" / "tokens").iterdir() if path.is_dir())


@pytest.mark.parametrize("objective", ["cross_entropy", "fait", "dpo", "kto"])
def test_packs_are_the_same_from_the_store_and_from_memory(folder, objective):
    run, encoding = ScratchRun(folder), encoder(objective)
    in_memory = tokenized.linked(listed([made for row in ROWS for made in encoding(row).sequences]), encoding)
    from_store, _ = stored(folder, encoding, run)
    assert any("were left out" in line for line in run.said)
    columns = part("objectives", objective).spec.columns
    tasks = ("task 0", "task 1", "task 2")
    first, second = (schedule(sequences, 128, 5000, 2, seed=3) for sequences in (in_memory, from_store))
    assert len(first) == len(second) > 3
    for one, other in zip(first, second, strict=True):
        rows = collate([one], tasks, columns), collate([other], tasks, columns)
        assert rows[0].keys() == rows[1].keys()
        assert all(torch.equal(rows[0][name], rows[1][name]) for name in rows[0])
        assert [s.id for s in one.sequences] == [s.id for s in other.sequences]
    assert in_memory.facts.trained.tolist() == from_store.facts.trained.tolist()
    assert in_memory.facts.longest.tolist() == from_store.facts.longest.tolist()
    assert in_memory.facts.auxiliary.tolist() == from_store.facts.auxiliary.tolist()


def test_tokens_are_made_once_for_the_same_rows_and_settings(folder, monkeypatch):
    first, figures = stored(folder, encoder())
    monkeypatch.setattr(encode, "training_sequences", None)
    again, same_figures = stored(folder, encoder())
    assert list(again) == list(first)
    assert same_figures == figures


def test_rows_settings_tokenizer_and_objective_each_have_a_store_of_their_own(folder):
    for one in (encoder(), encoder("mftcoder"), encoder(pack_tokens=64), encoder("fait"), encoder("fait", union=True)):
        stored(folder, one)
        stored(folder, one)
    tables.write(folder / "examples.parquet", ROWS[1:], Example)
    stored(folder, encoder())
    stored(folder, replace(encoder(), train_on="last"))
    with (folder / "model" / "chat_template.jinja").open("a") as file:
        file.write("{# another #}")
    stored(folder, encoder())
    small.add_template(folder / "model", "tool_use")
    stored(folder, encoder())
    assert len(stores(folder)) == 8
    (folder / "model" / "model.safetensors").write_bytes(b"other weights")
    stored(folder, encoder())
    assert len(stores(folder)) == 8


def test_a_cut_store_is_made_anew_and_said(folder):
    expected = list(stored(folder, encoder())[0])
    (name,) = stores(folder)
    path = folder / "cache" / "tokens" / name / "ids"
    path.write_bytes(path.read_bytes()[:-4])
    run = ScratchRun(folder)
    assert list(stored(folder, encoder(), run)[0]) == expected
    assert any("computed again" in line for line in run.said)


def test_figures_are_by_domain_and_count_what_no_pack_holds(folder):
    sequences, figures = stored(folder, encoder())
    lengths = sorted(len(s) for s in sequences if s.domain == "odd")
    assert figures["odd"] == {
        "sequences": len(lengths),
        "tokens": sum(lengths),
        "mean": round(sum(lengths) / len(lengths), 2),
        "p50": lengths[(len(lengths) - 1) // 2],
        "p90": lengths[-(len(lengths) // 10) - 1],
        "p99": lengths[-1],
        "longest": lengths[-1],
        "too_long": 2,
    }
    assert figures["even"]["too_long"] == 3
    assert figures["even"]["sequences"] + figures["odd"]["sequences"] + 5 == len(ROWS)


def test_a_control_token_is_not_taken_for_length(folder):
    rows = [small.example(response="<|im_end|>"), small.example(1, response="x" * 300), small.example(2)]
    tables.write(folder / "examples.parquet", rows, Example)
    run = ScratchRun(folder)
    _, figures = stored(folder, encoder(), run)
    assert figures["tests"]["too_long"] == 1
    assert run.said[0].startswith("tune r0: 2 of 3 examples are longer than a pack, hold a control token")


def test_the_first_sequences_need_the_first_rows_alone(folder, monkeypatch):
    one = ExampleEncoder(TOKENIZER, 128)
    everything = [s for row in ROWS for s in one(row).sequences]
    read = []
    usual = ExampleEncoder.__call__
    monkeypatch.setattr(ExampleEncoder, "__call__", lambda self, row: read.append(row.id) or usual(self, row))
    few = tokenized.first_examples(folder / "examples.parquet", one, 150)
    assert few == encode.take(everything, 150)
    assert len(read) <= len(few) + 2


def test_documents_are_the_same_from_the_store_and_from_memory(folder):
    texts = [("general" if n % 3 else "domain", f"{n} is a number. " * (n + 1)) for n in range(12)]
    rows = [Document(f"d{n}", text, domain, "g", "train", "s", "MIT") for n, (domain, text) in enumerate(texts)]
    tables.write(folder / "documents.parquet", rows, Document)
    in_memory = list(encode.documents(rows, TOKENIZER, 64))
    pieces, figures = tokenized.stored_documents(
        folder / "documents.parquet", folder / "model", DocumentEncoder(TOKENIZER, 64), ScratchRun(folder)
    )
    assert list(pieces) == in_memory
    assert figures["domain"]["tokens"] == sum(len(s) for s in in_memory if s.domain == "domain")
    first = tokenized.first_documents(
        folder / "documents.parquet", DocumentEncoder(TOKENIZER, 64), ("domain", "general"), 100
    )
    for corpus, taken in first.items():
        assert taken == encode.take([s for s in in_memory if s.domain == corpus], 100)
