"""Write the evidence of a model: its files, and beside them the records by which others judge it."""

import shutil
from pathlib import Path

import yaml

from flows.execution.dvc import lock_file
from flows.registry import versions
from flows.registry.evidence import bom, data_record, environment, layout, secrets, signing, statement, subject
from flows.registry.evidence.subject import Subject
from tasks import configuration
from tasks.core.licenses import terms
from tasks.core.licenses.terms import Terms
from tasks.io import data_licenses
from tasks.io.system import files

GUARDED = (*layout.RECORDS, layout.PROVENANCE)


def write(name: str, to: Path | None = None) -> Path:
    """Write and sign the evidence of a model, and return its folder. `name` is what `subject.load` takes.

    The bytes are the same each time but for the two signatures. Raises ValueError if the model is not what its record says, if a file would
    hold a secret, or if nothing can be signed here.
    """
    model = subject.load(name)
    materials = model.materials  # before anything heavy is imported: what they are not is the usual reason to stop
    if not materials:
        raise ValueError(f"{lock_file.PATH} has no stage that made {model.name}. `ratchet run` makes it.")
    if not subject.REPORT_CARD.is_file():
        raise FileNotFoundError(f"{subject.REPORT_CARD} is missing. `ratchet run report` makes it.")
    if model.decision is None and not subject.is_reported():
        raise ValueError(
            f"{subject.REPORT_CARD} has other results than this workspace. `ratchet run report` brings it up to date."
        )
    signing.check_installed()
    target = to or layout.FOLDER / model.label
    work = target.with_name(f".{target.name}.partial")  # the folder may be one of a person, with others of any name
    files.remove(work)
    try:
        _fill(work / target.name, model)
        files.remove(target)
        (work / target.name).rename(target)
    finally:
        files.remove(work)
    return target


def _fill(folder: Path, model: Subject) -> None:
    for kind, source in model.folders.items():
        shutil.copytree(source, folder / kind, copy_function=versions.link_file)
    allowed, installed = _terms(model), environment.installed()
    (folder / layout.CARD).write_text(_card(model), encoding="utf-8")
    shutil.copyfile(model.lock_path, folder / layout.LOCK)
    texts = {
        layout.BOM: layout.as_json(bom.of(model, folder, allowed, installed)),
        layout.DATA: layout.as_json(data_record.of(model)),
        layout.LICENSES: layout.as_json(allowed.record()),
        layout.ENVIRONMENT: environment.requirements(installed),
    }
    if model.decision:
        texts[layout.DECISION] = layout.as_json(model.decision.model_dump(mode="json"))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    provenance = layout.as_json(statement.of(model, folder))
    (folder / layout.PROVENANCE).write_text(provenance, encoding="utf-8")
    secrets.check(folder, [folder / name for name in GUARDED if (folder / name).is_file()])
    _sign(folder, provenance.encode())


def _card(model: Subject) -> str:
    """Return the report's card, without the metadata above it where they are another model's: the card tells of every model.

    A report that is not up to date keeps nobody from promoting: where it tells other results, none are told.
    """
    if not subject.is_reported():
        return f"# {model.name}\n\nThe report was not up to date when this was written, so it has no results on the test set.\n"
    card = subject.REPORT_CARD.read_text(encoding="utf-8")
    _, metadata, text = card.split("---\n", 2)
    named = [entry["name"] for entry in yaml.safe_load(metadata).get("model-index", ())]
    return card if named in ([], [model.entry]) else text.lstrip()


def _sign(folder: Path, provenance: bytes) -> None:
    key = signing.private_key()
    public = signing.public_key(key)
    envelope = signing.envelope(provenance, statement.PAYLOAD, key)
    (folder / layout.PROVENANCE).write_text(layout.as_json(envelope), encoding="utf-8")
    (folder / layout.SIGNING_KEY).write_text(public, encoding="utf-8")
    signing.sign_folder(folder, key)
    signing.trust(public)


def _terms(model: Subject) -> Terms:
    """Return what the licences of base and data leave for the model."""
    holders = data_licenses.holders(
        Path(model.origins[0]),
        base=bom.START,
        pretrained=Path("models/pretrained"),
        rounds=Path("data/rounds"),
        documents=Path("data/ingested/train_documents.parquet"),
    )
    rules = model.decision.rules if model.decision else configuration.load().gate
    return terms.combine(holders, rules.license)
