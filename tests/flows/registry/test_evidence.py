"""Evidence of a model: other people's tools accept it, the same model has the same bytes, and nothing secret is in it."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from model_signing._cli import main as model_signing
from packaging.requirements import Requirement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from flows.execution.dvc import lock_file
from flows.registry import promotion, verification
from flows.registry.evidence import bundle, layout, secrets, signing, subject
from tasks.core import environment
from tasks.io import provenance
from tests.flows.registry.made_model import SOURCE, MadeModel

EVIDENCE = Path("models/evidence/1")


def read(name, folder=EVIDENCE):
    return json.loads((folder / name).read_text())


def statement(folder=EVIDENCE):
    return json.loads(base64.b64decode(read(layout.PROVENANCE, folder)["payload"]))


def not_holding(folder=EVIDENCE, keys=signing.TRUSTED):
    return [check.what for check in verification.check_evidence(folder, keys) if not check.holds]


def test_a_promotion_leaves_evidence_that_verify_accepts(workspace_of_model):
    assert not_holding() == []
    assert [check.what for check in verification._evidence() if not check.holds] == []
    names = {path.relative_to(EVIDENCE).as_posix() for path in EVIDENCE.rglob("*") if path.is_file()}
    assert {*layout.RECORDS, layout.PROVENANCE, layout.SIGNATURE, layout.SIGNING_KEY} <= names
    assert {"model/model.safetensors", "base/model.safetensors"} <= names


def test_figures_of_a_report_that_is_of_other_results_are_not_signed(tmp_path, store):
    """`ratchet run register` measures a model anew and makes no report."""
    made = MadeModel(tmp_path)
    results, metrics = Path("data/results/rounds/r0.parquet"), Path("data/metrics/rounds/r0.json")
    for path in (results, metrics):
        path.parent.mkdir(parents=True)
        path.write_text("of the model before")
    made.lock()
    report = {"cmd": "x", "deps": [made.entry(path) for path in subject.FIGURES], "outs": [made.entry("data/report")]}
    lock_file.write(lock_file.stages() | {"report": report})
    assert bundle._card(subject.load("r0")) == subject.REPORT_CARD.read_text()
    assert subject.load("r0").results != []
    results.write_text("of this model")
    made.register()
    assert promotion.promote().verdict == "promoted"
    assert not_holding() == []
    assert "has no results on the test set" in (EVIDENCE / layout.CARD).read_text()
    metrics_of = read(layout.BOM)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {metric["slice"].partition(",")[0] for metric in metrics_of} == {"gate"}
    with pytest.raises(ValueError, match=r"has other results than this workspace\. `ratchet run report`"):
        bundle.write("r0")


def test_model_signing_verifies_the_folder_wherever_it_lies(workspace_of_model, tmp_path):
    elsewhere = shutil.copytree(EVIDENCE, tmp_path / "elsewhere")
    arguments = ["verify", "key", str(elsewhere), "--signature", str(elsewhere / layout.SIGNATURE)]
    done = CliRunner().invoke(model_signing, [*arguments, "--public_key", str(signing.TRUSTED)])
    assert done.exit_code == 0, done.output
    (elsewhere / "model/model.safetensors").chmod(0o644)
    (elsewhere / "model/model.safetensors").write_bytes(b"other")
    done = CliRunner().invoke(model_signing, [*arguments, "--public_key", str(signing.TRUSTED)])
    assert done.exit_code == 1
    assert "model/model.safetensors" in done.output


def test_the_bill_of_materials_is_valid_cyclonedx_and_names_all_there_is(workspace_of_model):
    text = (EVIDENCE / layout.BOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    model = bom["metadata"]["component"]
    assert {part["name"]: part["hashes"][0]["content"] for part in model["components"]} == {
        path.relative_to(EVIDENCE).as_posix(): provenance.digest(path) for path in layout.model_files(EVIDENCE)
    }
    by_ref = {part["bom-ref"]: part for part in bom["components"]}
    assert (by_ref["base-model"]["name"], by_ref["base-model"]["licenses"]) == (
        SOURCE["id"],
        [{"expression": "Apache-2.0"}],
    )
    examples = by_ref["data/rounds/r0/examples.parquet"]
    assert examples["licenses"] == [{"expression": "MIT"}]
    assert {"alg": "SHA-256", "content": provenance.digest(Path("data/rounds/r0/examples.parquet"))} in examples[
        "hashes"
    ]
    assert [ref["ref"] for ref in model["modelCard"]["modelParameters"]["datasets"]] == [
        part["bom-ref"] for part in bom["components"] if part["type"] == "data"
    ]
    loss, *gate = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (loss["value"], loss["confidenceInterval"]) == ("1.5", {"lowerBound": "1.4", "upperBound": "1.6"})
    assert [metric["type"] for metric in gate] == ["domain: worse by than base", "general: worse by than base"]
    torch = next(part for part in bom["components"] if part["name"] == "torch")
    assert f"torch=={torch['version']}" in (EVIDENCE / layout.ENVIRONMENT).read_text().splitlines()
    other = text.replace('"type": "machine-learning-model"', '"type": "model"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(other) is not None


def test_the_provenance_is_a_statement_of_in_toto_in_an_envelope_that_securesystemslib_opens(workspace_of_model):
    key = SSlibKey.from_crypto(load_pem_public_key((EVIDENCE / layout.SIGNING_KEY).read_bytes()))
    envelope = Envelope.from_dict(read(layout.PROVENANCE))
    assert envelope.verify([key], 1)
    Statement.copy_from_pb(json_format.Parse(envelope.payload, statement_pb2.Statement())).validate()
    claims = json.loads(envelope.payload)
    build = claims["predicate"]["buildDefinition"]
    assert claims["predicateType"] == "https://slsa.dev/provenance/v1"
    assert build["externalParameters"]["stages"]["tune@r0"] == {"params.yaml": {"tune": {"adapter": "lora", "seed": 0}}}
    digests = {
        entry["name"]: entry["digest"] for entry in build["resolvedDependencies"] if "sha256" in entry.get("digest", {})
    }
    for path, digest in digests.items():
        assert provenance.digest(Path(path)) == digest["sha256"]
    assert {
        "code.py",
        "data/raw/rows.jsonl",
        "data/rounds/r0/examples.parquet",
        "models/base/model.safetensors",
    } <= digests.keys()
    assert {entry["name"]: entry["digest"]["sha256"] for entry in claims["subject"]} == {
        path.relative_to(EVIDENCE).as_posix(): provenance.digest(path) for path in layout.model_files(EVIDENCE)
    }


def test_mlcroissant_validates_the_data_record_and_reads_the_tables_by_it(workspace_of_model):
    shutil.copyfile(EVIDENCE / layout.DATA, layout.DATA)  # beside the tables, as `dvc pull` puts them
    environment = os.environ | {"PYTHONPATH": ""}

    def croissant(*arguments):
        command = [str(Path(sys.executable).with_name("mlcroissant")), *arguments, "--jsonld", layout.DATA]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    valid = croissant("validate")
    assert valid.returncode == 0, valid.stderr
    rows = croissant("load", "--record_set", "rounds-r0-examples", "--num_records", "1")
    assert rows.returncode == 0, rows.stderr
    assert "rows.jsonl" in rows.stdout + rows.stderr
    record = read(layout.DATA, Path())
    record["distribution"] = record["distribution"][1:]
    Path(layout.DATA).write_text(json.dumps(record))
    assert croissant("validate").returncode == 1


def test_the_environment_lock_is_one_that_pip_reads(workspace_of_model):
    requirements = [Requirement(line) for line in (EVIDENCE / layout.ENVIRONMENT).read_text().splitlines()]
    assert len(requirements) > 100
    assert all(len(requirement.specifier) == 1 and requirement.url is None for requirement in requirements)


def test_the_same_model_has_the_same_bytes_but_for_the_two_signatures(workspace_of_model):
    first = shutil.copytree(EVIDENCE, "first")
    bundle.write("1")
    again = {path.relative_to(EVIDENCE): path.read_bytes() for path in EVIDENCE.rglob("*") if path.is_file()}
    before = {path.relative_to(first): path.read_bytes() for path in Path(first).rglob("*") if path.is_file()}
    assert {str(name) for name in before if before[name] != again[name]} == {layout.PROVENANCE, layout.SIGNATURE}
    assert statement() == statement(Path(first))


def test_the_key_is_the_owners_alone_and_stands_in_no_record(workspace_of_model):
    assert stat.S_IMODE(signing.KEY.stat().st_mode) == 0o600
    secret = signing.KEY.read_text().splitlines()[1]
    assert [path for path in EVIDENCE.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()] == []
    signing.KEY.chmod(0o644)
    with pytest.raises(ValueError, match=r"others may read:\n    chmod 600 \.ratchet/keys/evidence\.pem"):
        bundle.write("1")


def test_a_disk_that_is_full_leaves_no_half_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            signing.private_key()
    assert signing.public_key(signing.private_key()).startswith("-----BEGIN PUBLIC KEY-----")
    assert stat.S_IMODE(signing.KEY.stat().st_mode) == 0o600


def test_a_chosen_key_is_used_and_one_that_is_missing_is_reported(workspace_of_model, monkeypatch, tmp_path):
    monkeypatch.setenv(environment.SIGNING_KEY, str(tmp_path / "team.pem"))
    with pytest.raises(ValueError, match=r"RATCHET_SIGNING_KEY names .*team\.pem, and there is no such file"):
        bundle.write("1")
    signing._make(tmp_path / "team.pem")
    bundle.write("1")
    assert not_holding() == []
    assert len(signing.trusted()) == 2


@pytest.mark.parametrize("indent", ["", "    "])
def test_a_key_is_trusted_whatever_white_space_came_with_it(workspace_of_model, indent):
    signing.TRUSTED.write_text("From: Ann\n\n" + textwrap.indent(signing.TRUSTED.read_text(), indent).rstrip())
    assert not_holding() == []
    bundle.write("1")
    assert len(signing.trusted()) == 1, "it is not added once more"
    signing._make(other := Path(".ratchet/keys/other.pem"))
    signing.trust(signing.public_key(other))
    assert signing.trusted() == [signing.public_key(signing.KEY), signing.public_key(other)]
    signing.TRUSTED.write_text(signing.TRUSTED.read_text().replace("KEY-----\nM", "KEY-----\n!"))
    with pytest.raises(ValueError, match="a public key that is damaged"):
        signing.trusted()


def test_a_model_that_was_never_judged_has_evidence_without_a_decision(workspace_of_model):
    folder = bundle.write("r0")
    assert not_holding(folder) == []
    assert not (folder / layout.DECISION).exists()
    properties = {
        entry["name"]: entry["value"] for entry in read(layout.BOM, folder)["metadata"]["component"]["properties"]
    }
    assert properties["ratchet:gate"] == "not judged"
    assert properties["ratchet:terms"] == "any licence, with the notices of Apache-2.0, MIT"


def test_the_metadata_of_another_models_card_are_left_out(workspace_of_model):
    card = Path("data/report/README.md")
    folder = bundle.write("r0")
    assert (folder / layout.CARD).read_bytes() == card.read_bytes()
    card.write_text("---\nmodel-index:\n- name: r1\n---\n\n# r1\n")
    assert (bundle.write("r0") / layout.CARD).read_text() == "# r1\n"


def test_what_was_forgotten_is_said_by_bill_of_materials_and_provenance(workspace_of_model):
    properties = {entry["name"]: entry["value"] for entry in read(layout.BOM)["metadata"]["component"]["properties"]}
    assert properties["ratchet:excluded"] == "file gone.jsonl"
    stages = statement()["predicate"]["buildDefinition"]["externalParameters"]["stages"]
    assert stages["ingest"]["params.yaml"]["ingest"]["exclude"] == ["file gone.jsonl"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r9", r"There is no model 'r9'\. There are: champion, base, r0"),
        ("7", r"Version 7 was never promoted.*These were: 1\."),
    ],
)
def test_a_name_that_is_no_model_is_reported_with_those_there_are(workspace_of_model, name, message):
    with pytest.raises(ValueError, match=message):
        bundle.write(name)


def test_a_version_that_the_workspace_has_moved_on_from_is_told_with_the_commit(workspace_of_model):
    Path("code.py").write_text("x = 2\n")
    with pytest.raises(ValueError, match=r"code\.py is not what dvc\.lock was written for\. `ratchet run`"):
        bundle.write("1")
    stages = lock_file.stages()
    lock_file.write(stages | {"tune@r0": stages["tune@r0"] | {"params": {"params.yaml": {"tune": {"seed": 1}}}}})
    with pytest.raises(
        ValueError, match=r"other stages than version 1 was promoted with(.|\n)*git checkout COMMIT && dvc checkout"
    ):
        bundle.write("1")


def test_stages_that_the_model_does_not_follow_from_may_run_after_its_promotion(workspace_of_model):
    """Evidence of a version wants a report, and `ratchet run report`, which makes it, writes dvc.lock."""
    first = shutil.copytree(EVIDENCE, Path("first"))
    lock_file.write(lock_file.stages() | {"report": {"cmd": "x"}})
    bundle.write("1")
    assert not_holding() == []
    assert [check.what for check in verification._evidence() if not check.holds] == []
    assert (EVIDENCE / layout.LOCK).read_bytes() == (first / layout.LOCK).read_bytes()
    shutil.rmtree(EVIDENCE)
    promotion.promote()
    assert statement() == statement(first)


def test_nothing_beside_a_place_that_is_named_is_removed(workspace_of_model, tmp_path):
    mine = tmp_path / "mine/.partial/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    folder = bundle.write("1", tmp_path / "mine/evidence")
    assert (mine.exists(), not_holding(folder)) == (True, [])


def test_what_keeps_evidence_from_being_written_keeps_nobody_from_promoting(tmp_path, store, monkeypatch, capsys):
    made = MadeModel(tmp_path)
    made.lock()
    made.register()
    Path("code.py").write_text("x = 2\n")
    assert promotion.promote().verdict == "promoted"
    assert "There is no evidence of version 1: code.py is not what dvc.lock was written for" in capsys.readouterr().out
    assert not layout.FOLDER.exists()


PLANTED = {
    "DATABASE_PASSWORD": "correct-horse-battery",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIsecretSecretEXAMPLEKEY0000x",
    "PREFECT_API_AUTH_STRING": "admin:nobody-knows-this",
}
REMOTE = "zzremotezzsecretzz0123456789"


def test_no_planted_secret_is_in_anything_that_is_written(workspace_of_model, empty_prefect, monkeypatch):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config.local").write_text(f"['remote \"store\"']\n    secret_access_key = {REMOTE}\n")
    shutil.copytree(empty_prefect, ".ratchet/prefect")
    block = subprocess.run(
        [sys.executable, "-c", SAVE_BLOCK], env=os.environ | {"PREFECT_HOME": str(Path(".ratchet/prefect").resolve()), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert block.returncode == 0, block.stderr
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "remote", "add", "origin", "https://me:in-the-address-of-git@example.org/a.git"], check=True)
    bundle.write("1")
    values = [*PLANTED.values(), REMOTE, "in-the-address-of-git", "in-a-prefect-block"]
    written = {path: path.read_bytes() for path in EVIDENCE.rglob("*") if path.is_file()}
    payload = json.dumps(statement()).encode()
    assert [(str(path), value) for path, text in written.items() for value in values if value.encode() in text] == []
    assert [value for value in values if value.encode() in payload] == []


SAVE_BLOCK = """
from prefect.blocks.system import Secret
Secret(value="in-a-prefect-block").save("database", overwrite=True)
"""


def test_a_secret_in_the_settings_keeps_evidence_from_being_written_and_is_not_shown(workspace_of_model, monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", "data/raw/rows")  # stands in dvc.lock as a setting
    before = provenance.digest(EVIDENCE)
    with pytest.raises(ValueError, match=r"would contain a secret \(the value of SERVICE_TOKEN\)") as error:
        bundle.write("1")
    assert "data/raw/rows" not in str(error.value)
    assert provenance.digest(EVIDENCE) == before  # what there was stays


def test_a_secret_that_is_too_long_for_the_name_of_a_file_is_searched_for_too(tmp_path, monkeypatch):
    token = "eyJ" + "x" * 300
    monkeypatch.setenv("SERVICE_TOKEN", token)
    (tmp_path / "card.md").write_text("all is well")
    secrets.check(tmp_path, [tmp_path / "card.md"])
    (tmp_path / "card.md").write_text(f"made with {token}")
    with pytest.raises(ValueError, match=r"the value of SERVICE_TOKEN") as error:
        secrets.check(tmp_path, [tmp_path / "card.md"])
    assert token not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_API_AUTH_STRING", "ann:s3cret-w0rd"),
        ("RATCHET_NOTIFY", "slack://T0A1/B0B2/c3c3c3c3"),
        ("PG_URL_KEY", "postgresql://a:b9b9b9@h/d"),
        ("HTTP_AUTHORIZATION", "Basic YW5uOnMzY3JldA"),
        ("AUTHOR_TOKENS", "ann:s3cret-w0rd"),
    ],
)
def test_values_of_servers_and_notifications_are_secrets_too(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    (tmp_path / "card.md").write_text(f"settings: {value}")
    with pytest.raises(ValueError, match=rf"the value of {name}"):
        secrets.check(tmp_path, [tmp_path / "card.md"])


@pytest.mark.parametrize("name", ["GIT_AUTHOR_NAME", "TOKENIZER"])
def test_names_of_authors_and_tokenizers_are_no_secrets(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "Ada Lovelace")
    (tmp_path / "decision.json").write_text('{"by": "Ada Lovelace"}')
    secrets.check(tmp_path, [tmp_path / "decision.json"])


def test_without_the_extra_one_message_says_what_installs_it(workspace_of_model, monkeypatch):
    monkeypatch.setattr(signing, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"(?s)model_signing.*pip install 'ratchet-llm\[evidence\]'"):
        bundle.write("1")
    (problem,) = not_holding()
    assert "is not installed" in problem


def test_the_lineage_is_what_made_the_model_and_its_results(workspace_of_model):
    assert list(subject.load("1").lock) == ["fetch", "ingest", "pretrain", "tune@r0", "evaluate@r0"]
