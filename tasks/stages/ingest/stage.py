"""Stage `ingest`: examples and corpora from every source, without duplicates, split so that nothing leaks.

reads   data/raw/, models/embedder/, data/review_records.jsonl, and the packages, files and folders that params.yaml names
writes  data/ingested/{valid,test,gate,benchmark}.parquet, data/ingested/{train,valid,test,gate}_documents.parquet,
        data/ingested/{quarantine,sensitive}.parquet, data/ingested/report.json, data/rounds/r0/examples.parquet,
        data/ingested/generated.json (the kinds of tasks that sources generate)
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from tasks.core.records import Decision, Document, Example, Refusal, SensitiveText
from tasks.core.stage import Run
from tasks.core.text.contamination import find_overlaps, prompt_of
from tasks.core.text.texts import Apply, Selection
from tasks.io import review_decisions, sandbox, tables
from tasks.io.sources import gym
from tasks.io.sources.package import Module
from tasks.io.sources.text_cache import TextCache
from tasks.io.system import files, locks
from tasks.io.system.workers import Workers
from tasks.io.weights import embedders
from tasks.stages.ingest import counts, rescue, samples
from tasks.stages.ingest.config import Folder, Gym, IngestConfig, Package, Rows, StageConfig
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.filtering.documents import KeptDocuments, cut_lone_documents, filter_and_split_documents
from tasks.stages.ingest.filtering.examples import Decisions, Filter, both_sides
from tasks.stages.ingest.mining.suites import as_suites
from tasks.stages.ingest.mining.verification import verify_candidates
from tasks.stages.ingest.outputs import kept_of_files, refused_examples, write_examples
from tasks.stages.ingest.quarantine import Quarantine, Sourced
from tasks.stages.ingest.reading.corpora import extract_documents, read_corpora
from tasks.stages.ingest.reading.documents import module_document
from tasks.stages.ingest.reading.evaluation_sets import read_benchmark
from tasks.stages.ingest.reading.examples import Checked, mine_functions, python_modules, read_puzzles
from tasks.stages.ingest.reading.sources import all_sources, check_version, label, local_path, sample, tell_apart
from tasks.stages.ingest.screening import exclusion, sensitive
from tasks.stages.ingest.shards.collection import Reader, Shards, empty_files, num_read, refusals, sensitive_texts
from tasks.stages.ingest.shards.kept_results import KeptResults
from tasks.stages.ingest.shards.parts import MadePart, Part, parts_of
from tasks.stages.ingest.shards.shard import Shard
from tasks.stages.ingest.splits import NEEDED, SPLITS

REASONS = 5
"""Number of reasons of refusal that the summary names. Rarer ones are counted together."""


@dataclass(frozen=True)
class _Work:
    """The resources of a run, and the caches of earlier runs."""

    reader: Reader
    texts: TextCache
    known: KeptResults
    rescues: Mapping[str, Decision]
    apply: Apply
    """Applies a function to independent items in worker processes."""
    scratch: Path
    run: Run

    def forget_unused(self) -> None:
        """Remove the results of earlier runs that this run did not use."""
        for kept in (self.reader, self.texts, self.known):
            kept.forget_unused()


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Read every source, filter and split examples and documents, and write the kept ones and the quarantine."""
    if config.ingest.near_duplicates.cosine is not None:
        embedders.check(inputs["embedder"])
    every_source = all_sources(config.ingest)
    tell_apart(every_source)
    settings = exclusion.resolved(config.ingest, every_source, run.say)
    check_sources(settings, inputs["raw"], run)
    with _folder(run) as folder:
        scratch = folder / "scratch"
        files.remove(scratch)  # a killed run may have left it
        scratch.mkdir(parents=True)
        try:
            rescues = review_decisions.read_those(inputs["decisions"], "accept")
            with Workers(config.compute.threads) as workers:
                reader = Reader(settings, folder / "shards", scratch, run, workers, frozenset(rescues))
                texts, known = TextCache(folder / "texts"), KeptResults(folder / "blocks", workers.apply)
                work = _Work(reader, texts, known, rescues, workers.apply, scratch, run)
                _ingest(inputs, outputs, settings, work)
        finally:
            files.remove(scratch)
        work.forget_unused()


@contextmanager
def _folder(run: Run) -> Iterator[Path]:
    """Yield the folder where shards are kept for later runs. If another run is using it, yield a folder of this run instead."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.exclusive(run.cache / "ingest.lock"))
            folder = run.cache / "ingest"
        except locks.Taken:
            folder = run.work / "ingest"
        yield folder


def _ingest(inputs: Mapping[str, Path], outputs: Mapping[str, Path], config: IngestConfig, work: _Work) -> None:
    scratch, apply, run = work.scratch, work.apply, work.run
    hide = partial(sensitive.hide, actions=config.actions)
    quarantine = Quarantine(hide)
    modules = {
        place: python_modules(source)
        for place, source in enumerate(config.sources)
        if isinstance(source, Package | Folder)
    }
    benchmark, unread = _read_benchmarks(config, work.reader, quarantine)
    shards = Shards([*benchmark, *_read_examples(config, modules, work.reader, quarantine, run)])
    extract_documents(config, work.texts, apply, run)
    corpus, sensitive_documents = read_corpora(config, quarantine, work.texts.read, scratch / "documents", work.rescues)

    num_benchmark = sum(shard.rows for shard in benchmark)
    filters = Filter(shards, num_benchmark, config, scratch, run, work.rescues, apply, work.known)
    decisions = filters.apply(partial(embedders.embed, inputs["embedder"]))
    quarantine.receive_table({}, refused_examples(shards, decisions, config, scratch / "refused", hide))
    if config.sources:
        check_splits(decisions, quarantine)
    mined = [module_document(module) for members in modules.values() for module in members]
    groups = decisions.drawn.of({document.group for document in [*mined, *corpus.documents]})
    overlapping = partial(overlapping_examples, shards, decisions, config, scratch / "overlaps", apply)
    texts, folder = config.of_texts, scratch / "documents"
    parts = cut_lone_documents(corpus, groups, texts, quarantine, folder / "parts")
    caveats = [*unread, *(small_splits(decisions, config) if config.sources else []), *lone_texts(corpus, parts, texts)]
    for line in caveats:
        run.say(line)
    documents = filter_and_split_documents(
        parts, mined, groups, overlapping, texts, quarantine, folder, work.rescues, apply
    )
    check_corpora(documents.items, texts)

    places = pl.concat([sensitive_texts(shards.all), sensitive_documents])
    tables.sink_query(outputs["ingested"] / "sensitive.parquet", places, SensitiveText)
    paths = _write_tables(outputs, shards, decisions, documents, quarantine)
    counted = counts.count_tables(*paths, scratch / "duckdb")
    num_kept = kept_of_files(shards, decisions) + Counter(item.source for item in documents.items)
    rescued = rescue.record(work.rescues, shards, [corpus, parts], quarantine.table()) if work.rescues else None
    for line in exclusion.without_effect(config.exclude, quarantine.table()):
        run.say(line)
    _report(outputs["ingested"], config, quarantine.balance(num_kept), counted, caveats, rescued, run)
    generating = [source.tasks for source in config.sources if isinstance(source, Gym)]
    gym.write_kinds(outputs["ingested"] / "generated.json", gym.kinds(generating))


def _report(
    folder: Path,
    config: IngestConfig,
    balance: Mapping[str, Any],
    counted: Mapping[str, Any],
    caveats: Sequence[str],
    rescued: Mapping[str, Any] | None,
    run: Run,
) -> None:
    """Write `report.json` into the folder of the tables, and print what a person needs to know."""
    places = pl.scan_parquet(folder / "sensitive.parquet")
    thin = list(counts.thin_tasks(counted["tasks"]))
    report = {
        "sources": balance,
        "sensitive": sensitive.count(places),
        **counted,
        "shares": counts.shares(counted["splits"], config.splits.held_out),
        "samples": samples.draw(folder, config.seed),
        "pretraining": counts.PRETRAINING,
        "caveats": [*caveats, *thin],
        **({"rescued": rescued} if rescued is not None else {}),
    }
    files.write_atomically(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    of_rescues = rescue.in_words(rescued) if rescued is not None else ()
    for line in (*thin, *of_rescues, summary(report), *sensitive.in_words(places)):
        run.say(line)


def check_sources(config: IngestConfig, raw: Path, run: Run) -> None:
    """Raise an error if a source is missing or has another version, before any work is done. Print the files that DVC does not watch."""
    every_source = all_sources(config)
    for source in every_source:
        check_version(source)
    paths = sorted({path for path in map(local_path, every_source) if path})
    missing = [path.as_posix() for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"ingest: there is no {', no '.join(missing)}. Put it there, or correct the path in params.yaml."
        )
    for path in paths:
        if not path.resolve().is_relative_to(raw.resolve()):
            run.say(
                f"{path} lies outside {raw}, so DVC does not watch it: a change counts only when ingest runs again (`dvc repro -f ingest`)."
            )


def check_splits(decisions: Decisions, quarantine: Quarantine) -> None:
    """Raise ValueError if no example is kept, or if train, valid or test is empty. The gate may be missing."""
    sizes = decisions.sizes
    missing = [split for split in NEEDED if not sizes[split]]
    if not missing:
        return
    refusals = quarantine.table()
    reasons = refusals.group_by("reason", maintain_order=True).len().collect().iter_rows()
    most = sorted(reasons, key=lambda entry: -entry[1])[:5]
    dropped = ", ".join(f"{number} {reason}" for reason, number in most) or "none was dropped"
    shown = refusals.head(1).collect().iter_rows(named=True)
    first = next((f" The first: {r['source']}, {r['where']}: {r['reason']}: {r['detail']}." for r in shown), "")
    num_kept = sum(sizes.values())
    if not num_kept:
        raise ValueError(
            f"ingest kept no example. What was dropped: {dropped}.{first} See `ingest.sources` in params.yaml."
        )
    groups = sum(decisions.num_groups.values())
    raise ValueError(
        f"ingest: {' and '.join(missing)} would be empty: {num_kept} examples in {groups} groups are left ({dropped}).{first} "
        f"{len(NEEDED)} groups are the least, one each for {', '.join(NEEDED)}. Add data, or make smaller groups."
    )


def small_splits(decisions: Decisions, config: IngestConfig) -> Iterator[str]:
    """Yield a sentence for each held-out split with only one group, with its actual share and the one asked for, and for a missing gate."""
    sizes, groups = decisions.sizes, decisions.num_groups
    num_kept = sum(sizes.values())
    for split, share in config.splits.held_out.items():
        if share and groups[split] == 1:
            yield (
                f"{split} holds one group: {sizes[split]} of {num_kept} examples, {sizes[split] / num_kept:.0%} where "
                f"{share:.0%} were asked for. Figures on it are rough; more groups would do."
            )
        elif share and not groups[split]:
            yield (
                f"{split} holds nothing: {sum(groups.values())} groups are one each for {', '.join(NEEDED)}. Nothing can be promoted "
                "until there are more."
            )


def lone_texts(corpus: Corpus, parts: Corpus, config: IngestConfig) -> Iterator[str]:
    """Yield a sentence for each domain whose texts were cut because they were too few."""
    before, after = (Counter(document.domain for document in each.documents) for each in (corpus, parts))
    for domain in after:
        if after[domain] > before[domain]:
            yield (
                f"ingest.corpora.{_named(domain, config)}: too few texts to hold one out ({before[domain]}). They are cut into {after[domain]} parts, "
                "and parts are held out. A model measures better on parts of texts that it was trained on; more texts would do."
            )


def _named(domain: str, config: IngestConfig) -> str:
    return f"domains.{domain}" if domain in config.corpora.domains else domain


def check_corpora(documents: Sequence[Sourced[Document]], config: IngestConfig) -> None:
    """Raise ValueError if a corpus has no text to train on or no text to measure on."""
    for domain, sources in config.corpora.by_domain.items():
        available = {item.record.split for item in documents if item.record.domain == domain}
        missing = [split for split in config.splits.of_corpora if split not in available]
        if sources and missing:
            raise ValueError(
                f"ingest.corpora.{_named(domain, config)}: no text is left for {' and '.join(missing)}. "
                "Add texts, raise their shares in `ingest.corpora.splits`, or name no source there."
            )


def summary(report: Mapping[str, Any]) -> str:
    """Return the sizes and shares of the splits, the reasons of refusal and the sizes of the corpora, one line each."""
    sizes = report["splits"]
    splits = ", ".join(f"{sizes[split]['examples']} {split}" for split in SPLITS if split in sizes) or "none"
    reasons = sorted(report["dropped"].items(), key=lambda entry: -entry[1])
    if len(others := reasons[REASONS:]) > 1:  # a single one is as short by its name
        reasons = [*reasons[:REASONS], (f"for {len(others)} other reasons", sum(number for _, number in others))]
    dropped = ", ".join(f"{number} {reason}" for reason, number in reasons) or "nothing"
    corpora = ", ".join(f"{name} {row['chars']:,}" for name, row in report["corpora"].items()) or "none"
    shares = ", ".join(
        f"{row['examples']:.1%} {split} ({row['asked']:.1%} asked for)" for split, row in report["shares"].items()
    )
    drift = f"\nshares: {shares}" if shares else ""
    return f"examples: {splits}{drift}\ndropped of examples and texts: {dropped} (all in quarantine.parquet)\ncorpora, in characters: {corpora}"


def overlapping_examples(
    shards: Shards, decisions: Decisions, config: IngestConfig, folder: Path, apply: Apply, training: Selection
) -> dict[int, str]:
    """Map the index of each text that overlaps an evaluation example to the example's side with the largest overlap."""
    evaluation = decisions.evaluation
    if not len(training) or not len(evaluation):
        return {}
    held_out = both_sides(shards, evaluation)
    pairs = find_overlaps(training, held_out, config.contamination, folder, apply=apply)
    examples = shards.examples(int(evaluation[other % len(evaluation)]) for other in pairs.values())

    def text(side: int) -> str:
        example = examples[int(evaluation[side % len(evaluation)])]
        return prompt_of(example) if side < len(evaluation) else example.response

    return {place: text(side) for place, side in pairs.items()}


def _read_benchmarks(config: IngestConfig, reader: Reader, quarantine: Quarantine) -> tuple[list[Shard], list[str]]:
    """Return the items of the external evaluation sets, and a sentence for each set with rows that are not items."""
    shards, unread = list[Shard](), list[str]()
    for source in config.benchmarks:
        name = f"benchmark: {label(source)}"
        records = (Sourced(name, record) for record in read_benchmark(source, config.seed))
        items = _read(name, [MadePart(records, is_screened=False)], reader, quarantine, None)
        unread += unread_rows(name, items)
        shards += items
    return shards, unread


def unread_rows(name: str, items: Sequence[Shard]) -> Iterator[str]:
    """Yield a sentence if rows of an evaluation set cannot be read, since such rows keep nothing out of training.

    Raises ValueError if no row can be read.
    """
    reasons = refusals(items).group_by("reason", maintain_order=True).len().collect().iter_rows()
    listed = ", ".join(f"{number} {reason}" for reason, number in reasons)
    if not any(shard.rows for shard in items):
        raise ValueError(
            f"ingest: {name}: no row can be read ({listed or 'there is none'}), so it would keep nothing out of training. "
            "Correct the file, name its `columns`, or remove it from `ingest.benchmarks` in params.yaml."
        )
    if listed:
        yield f"{name}: rows that cannot be read keep nothing out of training: {listed}."


def _read_examples(
    config: IngestConfig, modules: Mapping[int, list[Module]], reader: Reader, quarantine: Quarantine, run: Run
) -> list[Shard]:
    """Return the examples of every source. Mined functions with tests must first pass them in the sandbox."""
    if modules:
        level = sandbox.probe()
        run.note(sandbox=level.name, sandbox_level=level.number)
    shards = []
    for place, source in enumerate(config.sources):
        name = label(source)
        if isinstance(source, Package | Folder):
            verified = _verified(source, modules[place], config.seed, run)
            shards += _read(name, [MadePart(Sourced(name, record) for record in verified)], reader, quarantine, None)
        elif isinstance(source, Gym):
            puzzles = read_puzzles(source, config.seed)
            shards += _read(name, [MadePart(Sourced(name, record) for record in puzzles)], reader, quarantine, None)
        else:
            shards += _read(name, list(parts_of(source, config)), reader, quarantine, source)
    return shards


def _read(name: str, parts: Sequence[Part], reader: Reader, quarantine: Quarantine, source: Rows | None) -> list[Shard]:
    """Return the shards of a source, and account for its records. Raises ValueError if none of them fits its check."""
    shards, summaries = reader.read(parts)
    read = num_read(summaries)
    quarantine.receive_table(read or {name: 0}, refusals(shards))
    for refusal in empty_files(parts, read):
        list(quarantine.receive(refusal.source, [refusal]))
    checked = Checked()
    for part in summaries:
        checked.add(part.checked)
    if source is not None:
        checked.raise_if_none_fits(source)
    return shards


def _verified(source: Package | Folder, modules: Sequence[Module], seed: int, run: Run) -> Iterator[Example | Refusal]:
    """Yield the functions of a source as verified examples, as examples without tests if the settings ask for them, or as refusals."""
    candidates = list(sample(mine_functions(source, modules), source.max_rows, seed))
    if untested := sum(isinstance(candidate, Example) for candidate in candidates):
        run.say(f"{label(source)}: {untested} functions have neither doctests nor tests; nothing checks their answers.")
    # The user chose these packages and folders and would run their code anyway, so resource limits suffice on a machine without a sandbox.
    run_cases = partial(sandbox.run, trusted=True)
    verified = verify_candidates(run.track(candidates, unit="function"), run_cases)
    return as_suites(verified, run_cases) if source.answer == "tests" else verified


def _write_tables(
    outputs: Mapping[str, Path],
    shards: Shards,
    decisions: Decisions,
    documents: KeptDocuments,
    quarantine: Quarantine,
) -> tuple[list[Path], list[Path], Path]:
    """Write every table and return the paths of examples, documents and quarantine."""
    folder = outputs["ingested"]
    examples = {split: folder / f"{split}.parquet" for split in SPLITS} | {"train": outputs["examples"]}
    write_examples(examples, folder / "benchmark.parquet", shards, decisions)
    texts = {split: folder / f"{split}_documents.parquet" for split in SPLITS}
    for split, path in texts.items():
        tables.sink(path, partial(documents.frames, split), Document)
    refused = folder / "quarantine.parquet"
    tables.sink_query(refused, quarantine.table(), Refusal)
    return list(examples.values()), list(texts.values()), refused
