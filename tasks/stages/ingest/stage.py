"""Stage `ingest`: examples and corpora from every source, without duplicates, split so that nothing leaks.

reads   data/raw/, models/embedder/, and the packages, files and folders that params.yaml names
writes  data/ingested/{valid,test,gate,benchmark}.parquet, data/ingested/{train,valid,test,gate}_documents.parquet,
        data/ingested/{quarantine,sensitive}.parquet, data/ingested/report.json, data/rounds/r0/examples.parquet,
        data/ingested/generated.json (the kinds of tasks that sources generate)
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import polars as pl

from tasks.core.records import Document, Example, Refusal, SensitiveText, Split
from tasks.core.stage import Run
from tasks.io import sandbox, tables
from tasks.io.sources import gym
from tasks.io.sources.package import Module
from tasks.io.weights import embedders
from tasks.stages.ingest import counts
from tasks.stages.ingest.config import Folder, Gym, IngestConfig, Package, StageConfig
from tasks.stages.ingest.filtering.documents import filter_and_split_documents
from tasks.stages.ingest.filtering.examples import filter_and_split_examples
from tasks.stages.ingest.mining.verification import verify_candidates
from tasks.stages.ingest.quarantine import Quarantine, Sourced
from tasks.stages.ingest.reading.documents import module_document, read_documents
from tasks.stages.ingest.reading.examples import mine_functions, python_modules, read_benchmark, read_puzzles, read_rows
from tasks.stages.ingest.reading.sources import check_version, label, local_path, sample
from tasks.stages.ingest.screening import sensitive
from tasks.stages.ingest.screening.screen import screen

SPLITS: tuple[Split, ...] = get_args(Split)


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Read every source, filter and split examples and documents, write what is kept and the quarantine."""
    ingest_config, quarantine = config.ingest, Quarantine()
    if ingest_config.near_duplicates.cosine is not None:
        embedders.check(inputs["embedder"])
    check_sources(ingest_config, inputs["raw"], run)
    benchmark = list(_read_benchmarks(ingest_config, quarantine))
    modules = {
        label(source): python_modules(source)
        for source in ingest_config.sources
        if isinstance(source, Package | Folder)
    }
    candidates = list(_read_examples(ingest_config, modules, quarantine, run))
    texts = list(_read_corpora(ingest_config, quarantine))

    screened = screen(candidates, texts, ingest_config, quarantine)
    items = [item.record for item in benchmark]
    embed = partial(embedders.embed, inputs["embedder"])
    kept, groups = filter_and_split_examples(screened.examples, items, ingest_config, embed, quarantine)
    if ingest_config.sources:
        check_splits(kept, ingest_config, quarantine)
        for line in small_splits(kept, ingest_config):
            run.say(line)
    evaluation = [*items, *(item.record for item in kept if item.record.split != "train")]
    mined = [module_document(module) for members in modules.values() for module in members]
    documents = filter_and_split_documents(screened.documents, mined, groups, evaluation, ingest_config, quarantine)
    check_corpora(documents, ingest_config)

    refusals = sensitive.hide(quarantine.refusals, ingest_config.actions)
    tables.write(outputs["ingested"] / "sensitive.parquet", screened.sensitive, SensitiveText)
    frames = _write_tables(
        outputs, [item.record for item in kept], items, [item.record for item in documents], refusals
    )
    report = {
        "sources": quarantine.balance([*benchmark, *kept, *documents]),
        "sensitive": sensitive.count(screened.sensitive),
        **counts.count_tables(*frames),
        "pretraining": counts.PRETRAINING,
    }
    (outputs["ingested"] / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    generating = [source.tasks for source in ingest_config.sources if isinstance(source, Gym)]
    gym.write_kinds(outputs["ingested"] / "generated.json", gym.kinds(generating))
    run.say(summary(report))
    for line in sensitive.in_words(screened.sensitive):
        run.say(line)


def check_sources(config: IngestConfig, raw: Path, run: Run) -> None:
    """Raise if a source is missing or has another version, before any work is done; name files that DVC does not watch."""
    sources = (*config.sources, *config.benchmarks, *config.corpora.domain, *config.corpora.general)
    for source in sources:
        check_version(source)
    paths = sorted({path for path in map(local_path, sources) if path})
    missing = [path.as_posix() for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"ingest: there is no {', no '.join(missing)}. Put it there, or correct the path in params.yaml."
        )
    for path in paths:
        if not path.resolve().is_relative_to(raw.resolve()):
            run.say(
                f"{path} lies outside {raw}: a change in it is seen only when ingest runs anew (`dvc repro -f ingest`)."
            )


def check_splits(kept: Sequence[Sourced[Example]], config: IngestConfig, quarantine: Quarantine) -> None:
    """Raise ValueError if no example is kept, or if a split that has a share is empty."""
    sizes = Counter(item.record.split for item in kept)
    missing = [split for split in SPLITS if not sizes[split] and config.splits.held_out.get(split, 1)]
    if not missing:
        return
    refusals = quarantine.refusals
    reasons = Counter(refusal.reason for refusal in refusals).most_common(5)
    dropped = ", ".join(f"{number} {reason}" for reason, number in reasons) or "none was dropped"
    hidden = sensitive.hide(refusals[:1], config.actions)
    first = next((f" The first: {r.source}, {r.where}: {r.reason}: {r.detail}." for r in hidden), "")
    if not kept:
        raise ValueError(
            f"ingest kept no example. What was dropped: {dropped}.{first} See `ingest.sources` in params.yaml."
        )
    groups = len({item.record.group for item in kept})
    raise ValueError(
        f"ingest: {' and '.join(missing)} would be empty: {len(kept)} examples in {groups} groups are left ({dropped}).{first} "
        "Add data, or smaller groups, or raise the shares in `ingest.splits`."
    )


def small_splits(kept: Sequence[Sourced[Example]], config: IngestConfig) -> Iterator[str]:
    """Yield a sentence for each held-out split of one group, with its share and the one that was asked for."""
    sizes = Counter(item.record.split for item in kept)
    groups = {split: {item.record.group for item in kept if item.record.split == split} for split in SPLITS}
    for split, share in config.splits.held_out.items():
        if share and len(groups[split]) == 1:
            yield (
                f"{split} holds one group: {sizes[split]} of {len(kept)} examples, {sizes[split] / len(kept):.0%} where "
                f"{share:.0%} were asked for. Figures on it are rough; more groups would do."
            )


def check_corpora(documents: Sequence[Sourced[Document]], config: IngestConfig) -> None:
    """Raise ValueError if a corpus has nothing to train on or nothing to measure by."""
    for domain, sources in config.corpora.by_domain.items():
        available = {item.record.split for item in documents if item.record.domain == domain}
        needed = ("train", "test", "gate") if config.splits.gate else ("train", "test")
        missing = [split for split in needed if split not in available]
        if sources and missing:
            raise ValueError(
                f"ingest.corpora.{domain}: no text is left for {' and '.join(missing)}. "
                "Add texts, raise the shares in `ingest.splits`, or name no source there."
            )


def summary(report: Mapping[str, Any]) -> str:
    """Return the sizes of the splits, the reasons of refusal and the sizes of the corpora, in three lines."""
    sizes = report["splits"]
    splits = ", ".join(f"{sizes[split]['examples']} {split}" for split in SPLITS if split in sizes) or "none"
    reasons = sorted(report["dropped"].items(), key=lambda entry: -entry[1])
    dropped = ", ".join(f"{number} {reason}" for reason, number in reasons[:5]) or "nothing"
    corpora = ", ".join(f"{name} {row['chars']:,}" for name, row in report["corpora"].items()) or "none"
    return f"examples: {splits}\ndropped: {dropped} (all in quarantine.parquet)\ncorpora, in characters: {corpora}"


def _read_benchmarks(config: IngestConfig, quarantine: Quarantine) -> Iterator[Sourced[Example]]:
    """Yield the items of the external evaluation sets."""
    for source in config.benchmarks:
        yield from quarantine.receive(f"benchmark: {label(source)}", read_benchmark(source, config.seed))


def _read_examples(
    config: IngestConfig, modules: Mapping[str, list[Module]], quarantine: Quarantine, run: Run
) -> Iterator[Sourced[Example]]:
    """Yield the examples of every source; mined functions only after they passed their own tests in the sandbox."""
    if modules:
        level = sandbox.probe()
        run.note(sandbox=level.name, sandbox_level=level.number)
    for source in config.sources:
        name = label(source)
        if isinstance(source, Package | Folder):
            yield from quarantine.receive(name, _verified(source, modules[name], config.seed, run))
        elif isinstance(source, Gym):
            yield from quarantine.receive(name, read_puzzles(source, config.seed))
        else:
            yield from quarantine.receive_files(name, read_rows(source, config.seed))


def _verified(source: Package | Folder, modules: Sequence[Module], seed: int, run: Run) -> Iterator[Example | Refusal]:
    """Yield the functions of a source as verified examples, as examples without tests if it asks for them, or as refusals."""
    candidates = list(sample(mine_functions(source, modules), source.max_rows, seed))
    if untested := sum(isinstance(candidate, Example) for candidate in candidates):
        run.say(f"{label(source)}: {untested} functions have neither doctests nor tests; nothing checks their answers.")
    # These programs are of packages and folders that the user chose and would run anyway: limits suffice where no sandbox is.
    return verify_candidates(run.track(candidates, unit="function"), partial(sandbox.run, trusted=True))


def _read_corpora(config: IngestConfig, quarantine: Quarantine) -> Iterator[Sourced[Document]]:
    """Yield the uncut documents of both corpora."""
    for domain, sources in config.corpora.by_domain.items():
        for source in sources:
            yield from quarantine.receive(f"{domain}: {label(source)}", read_documents(source, domain))


def _write_tables(
    outputs: Mapping[str, Path],
    examples: Sequence[Example],
    benchmark: Sequence[Example],
    documents: Sequence[Document],
    refusals: Sequence[Refusal],
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Write every table and return examples, documents and quarantine as frames."""
    folder = outputs["ingested"]
    paths = {split: folder / f"{split}.parquet" for split in SPLITS} | {"train": outputs["examples"]}
    for split in SPLITS:
        tables.write(paths[split], [example for example in examples if example.split == split], Example)
        texts = [document for document in documents if document.split == split]
        tables.write(folder / f"{split}_documents.parquet", texts, Document)
    tables.write(folder / "benchmark.parquet", benchmark, Example)
    tables.write(folder / "quarantine.parquet", refusals, Refusal)
    return (
        pl.concat([tables.frame(path, Example) for path in paths.values()]),
        pl.concat([tables.frame(folder / f"{split}_documents.parquet", Document) for split in SPLITS]),
        tables.frame(folder / "quarantine.parquet", Refusal),
    )
