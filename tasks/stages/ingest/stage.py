"""Stage `ingest`: examples and corpora from every source, free of copies, and split so that nothing leaks.

reads   data/raw/, models/embedder/, and the packages, files and folders that params.yaml names
writes  data/ingested/{valid,test,gate,benchmark}.parquet, data/ingested/{train,valid,test,gate}_documents.parquet,
        data/ingested/quarantine.parquet, data/ingested/report.json, data/rounds/r0/examples.parquet
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import polars as pl

from tasks.core.records import Document, Example, Refusal, Split
from tasks.core.stage import Run
from tasks.io import embedders, sandbox, tables
from tasks.io.sources.package import Module
from tasks.stages.ingest import count, mine, read, verify
from tasks.stages.ingest.ledger import Ledger, Taken
from tasks.stages.ingest.params import Domain, Folder, Gym, IngestParams, Package, Settings
from tasks.stages.ingest.settle import settle_documents, settle_examples

SPLITS: tuple[Split, ...] = get_args(Split)


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Read and verify, merge what is equal, split, take out what leaks; then write what stays and account for the rest."""
    params, ledger = settings.ingest, Ledger()
    if params.near_duplicates.cosine is not None:
        embedders.check(inputs["embedder"])
    check_sources(params, inputs["raw"], run)
    benchmark = list(read_benchmarks(params, ledger))
    modules = {
        read.label(source): read.modules(source) for source in params.sources if isinstance(source, Package | Folder)
    }
    candidates = list(read_examples(params, modules, ledger, run))
    texts = list(read_documents(params, ledger))

    items = [item.record for item in benchmark]
    embed = partial(embedders.embed, inputs["embedder"])
    kept, groups = settle_examples(candidates, items, params, embed, ledger)
    if params.sources:
        check_splits(kept, params, ledger)
    evaluation = [*items, *(item.record for item in kept if item.record.split != "train")]
    mined = [read.module_document(module) for found in modules.values() for module in found]
    documents = settle_documents(texts, mined, groups, evaluation, params, ledger)
    check_corpora(documents, params)

    frames = write_tables(
        outputs, [item.record for item in kept], items, [item.record for item in documents], ledger.refusals
    )
    report = {
        "sources": ledger.balance([*benchmark, *kept, *documents]),
        **count.tables(*frames),
        "pretraining": count.PRETRAINING,
    }
    (outputs["ingested"] / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    run.say(summary(report))


def check_sources(params: IngestParams, raw: Path, run: Run) -> None:
    """Refuse what is not there before any work is done, and name files whose changes DVC cannot see."""
    sources = (*params.sources, *params.benchmarks, *params.corpora.domain, *params.corpora.general)
    for source in sources:
        read.check_version(source)
    places = sorted({path for path in map(read.place, sources) if path})
    missing = [path.as_posix() for path in places if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"ingest: there is no {', no '.join(missing)}. Put it there, or correct the path in params.yaml."
        )
    for path in places:
        if not path.resolve().is_relative_to(raw.resolve()):
            run.say(
                f"{path} lies outside {raw}: a change in it is seen only when ingest runs anew (`dvc repro -f ingest`)."
            )


def read_benchmarks(params: IngestParams, ledger: Ledger) -> Iterator[Taken[Example]]:
    """The items of the evaluation sets from elsewhere."""
    for source in params.benchmarks:
        yield from ledger.take(f"benchmark: {read.label(source)}", read.benchmark(source, params.seed))


def read_examples(
    params: IngestParams, modules: Mapping[str, list[Module]], ledger: Ledger, run: Run
) -> Iterator[Taken[Example]]:
    """The examples of every source; mined functions only after they passed their own tests in the sandbox."""
    if modules:
        level = sandbox.probe()
        run.note(sandbox=level.name, sandbox_level=level.number)
    for source in params.sources:
        name = read.label(source)
        if isinstance(source, Package | Folder):
            yield from ledger.take(name, verified(modules[name], source.max_rows, params.seed, run))
        elif isinstance(source, Gym):
            yield from ledger.take(name, read.puzzles(source, params.seed))
        else:
            yield from ledger.take(name, read.rows(source, params.seed))


def verified(modules: Sequence[Module], limit: int | None, seed: int, run: Run) -> Iterator[Example | Refusal]:
    """The functions of some modules as examples that hold, and the reasons of the others."""
    candidates = list(read.sample(mine.mine(modules), limit, seed))
    # These programs are of packages and folders that the user chose and would run anyway: limits suffice where no sandbox is.
    return verify.verify(run.track(candidates, unit="function"), partial(sandbox.run, trusted=True))


def read_documents(params: IngestParams, ledger: Ledger) -> Iterator[Taken[Document]]:
    """The whole texts of both corpora."""
    corpora: dict[Domain, Any] = {"domain": params.corpora.domain, "general": params.corpora.general}
    for domain, sources in corpora.items():
        for source in sources:
            yield from ledger.take(f"{domain}: {read.label(source)}", read.documents(source, domain))


def check_splits(kept: Sequence[Taken[Example]], params: IngestParams, ledger: Ledger) -> None:
    """Raise ValueError where nothing is left, or where a split that has a share is empty."""
    sizes = Counter(item.record.split for item in kept)
    missing = [split for split in SPLITS if not sizes[split] and params.splits.held_out.get(split, 1)]
    if not missing:
        return
    reasons = Counter(refusal.reason for refusal in ledger.refusals)
    found = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common(5)) or "none was dropped"
    first = next((f" The first: {r.source}, {r.where}: {r.reason}: {r.detail}." for r in ledger.refusals), "")
    if not kept:
        raise ValueError(
            f"ingest kept no example. What was dropped: {found}.{first} See `ingest.sources` in params.yaml."
        )
    groups = len({item.record.group for item in kept})
    raise ValueError(
        f"ingest: {' and '.join(missing)} would be empty: {len(kept)} examples in {groups} groups are left ({found}).{first} "
        "Add data, or smaller groups, or raise the shares in `ingest.splits`."
    )


def check_corpora(documents: Sequence[Taken[Document]], params: IngestParams) -> None:
    """Raise ValueError where a corpus has nothing to train on or nothing to measure by."""
    corpora: dict[Domain, Any] = {"domain": params.corpora.domain, "general": params.corpora.general}
    for domain, sources in corpora.items():
        found = {item.record.split for item in documents if item.record.domain == domain}
        needed = ("train", "test", "gate") if params.splits.gate else ("train", "test")
        missing = [split for split in needed if split not in found]
        if sources and missing:
            raise ValueError(
                f"ingest.corpora.{domain}: no text is left for {' and '.join(missing)}. "
                "Add texts, raise the shares in `ingest.splits`, or name no source there."
            )


def write_tables(
    outputs: Mapping[str, Path],
    examples: Sequence[Example],
    benchmark: Sequence[Example],
    documents: Sequence[Document],
    refusals: Sequence[Refusal],
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Write every table; give back examples, documents and quarantine as frames."""
    folder = outputs["ingested"]
    places = {split: folder / f"{split}.parquet" for split in SPLITS} | {"train": outputs["examples"]}
    for split in SPLITS:
        tables.write(places[split], [example for example in examples if example.split == split], Example)
        texts = [document for document in documents if document.split == split]
        tables.write(folder / f"{split}_documents.parquet", texts, Document)
    tables.write(folder / "benchmark.parquet", benchmark, Example)
    tables.write(folder / "quarantine.parquet", refusals, Refusal)
    return (
        pl.concat([tables.frame(place, Example) for place in places.values()]),
        pl.concat([tables.frame(folder / f"{split}_documents.parquet", Document) for split in SPLITS]),
        tables.frame(folder / "quarantine.parquet", Refusal),
    )


def summary(report: Mapping[str, Any]) -> str:
    """What a person wants to know, in a few lines."""
    found = report["splits"]
    splits = ", ".join(f"{found[split]['examples']} {split}" for split in SPLITS if split in found) or "none"
    reasons = sorted(report["dropped"].items(), key=lambda entry: -entry[1])
    dropped = ", ".join(f"{number} {reason}" for reason, number in reasons[:5]) or "nothing"
    corpora = ", ".join(f"{name} {row['chars']:,}" for name, row in report["corpora"].items()) or "none"
    return f"examples: {splits}\ndropped: {dropped} (all in quarantine.parquet)\ncorpora, in characters: {corpora}"
