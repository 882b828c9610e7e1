"""Whatever is altered in evidence is named by `verify`, and by the tool of its part."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from model_signing._cli import main as model_signing
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from flows.registry import history, promotion, verification
from flows.registry.evidence import bundle, layout, signing
from tasks.core import environment
from tests.flows.registry.made_model import MadeModel
from tests.flows.registry.test_evidence import EVIDENCE, not_holding, read

FILES = ("model/model.safetensors", "model/adapter.json", "base/config.json", *layout.RECORDS)


def altered(name, old=None, new=None):
    path = EVIDENCE / name
    path.chmod(0o644)
    text = path.read_bytes()
    path.unlink()  # it may be a link to the store of versions
    assert old is None or old in text
    path.write_bytes(text + b" " if old is None else text.replace(old, new))


def foreign_verdict(folder=EVIDENCE):
    arguments = ["verify", "key", str(folder), "--signature", str(folder / layout.SIGNATURE)]
    return CliRunner().invoke(model_signing, [*arguments, "--public_key", str(signing.TRUSTED)])


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named_by_signature_and_by_provenance(workspace_of_model, name):
    altered(name)
    problems = not_holding()
    assert any(layout.SIGNATURE in problem and name in problem for problem in problems)
    assert f"{EVIDENCE}: {name} is not what {layout.PROVENANCE} was signed for" in problems
    verdict = foreign_verdict()
    assert verdict.exit_code == 1
    assert name in verdict.output


@pytest.mark.parametrize("name", FILES)
def test_a_removed_file_is_named(workspace_of_model, name):
    (EVIDENCE / name).unlink()
    assert any(name in problem for problem in not_holding())
    assert foreign_verdict().exit_code == 1


@pytest.mark.parametrize("name", [layout.SIGNING_KEY, layout.PROVENANCE])
def test_an_altered_key_or_provenance_is_named_by_ours_and_by_the_signatures_own_tool(workspace_of_model, name):
    altered(name)
    assert any(layout.SIGNATURE in problem and name in problem for problem in not_holding())
    verdict = foreign_verdict()
    assert verdict.exit_code == 1
    assert name in verdict.output


def test_a_file_that_came_afterwards_is_named(workspace_of_model):
    (EVIDENCE / "model/extra.safetensors").write_bytes(b"x")
    problems = not_holding()
    assert any("model/extra.safetensors" in problem and layout.SIGNATURE in problem for problem in problems)
    assert f"{EVIDENCE}: model/extra.safetensors is not among what {layout.PROVENANCE} was signed for" in problems


def test_a_signature_that_was_altered_or_is_missing_is_reported(workspace_of_model):
    text = (EVIDENCE / layout.SIGNATURE).read_text()
    record = json.loads(text)
    signed = record["dsseEnvelope"]["signatures"][0]["sig"]
    record["dsseEnvelope"]["signatures"][0]["sig"] = signed[:10] + ("A" if signed[10] != "A" else "B") + signed[11:]
    (EVIDENCE / layout.SIGNATURE).write_text(json.dumps(record))
    assert any("is not the signature of its own contents" in problem for problem in not_holding())
    assert foreign_verdict().exit_code == 1
    for text in ("no json", "[" * 200_000):
        (EVIDENCE / layout.SIGNATURE).write_text(text)
        assert any("is no JSON" in problem for problem in not_holding())
    (EVIDENCE / layout.SIGNATURE).unlink()
    assert any("nothing here is signed" in problem for problem in not_holding())


def test_the_signature_of_another_model_is_reported(workspace_of_model):
    other = bundle.write("r0")
    shutil.copyfile(other / layout.SIGNATURE, EVIDENCE / layout.SIGNATURE)
    assert any(layout.SIGNATURE in problem and "mismatch" in problem for problem in not_holding())


def test_who_signs_with_another_key_is_not_trusted(workspace_of_model, monkeypatch, tmp_path):
    trusted = shutil.copyfile(signing.TRUSTED, tmp_path / "trusted.pem")
    monkeypatch.setenv(environment.SIGNING_KEY, str(tmp_path / "stranger.pem"))
    signing._make(tmp_path / "stranger.pem")
    bundle.write("1")
    problems = not_holding(keys=trusted)
    assert any("which is not a trusted one" in problem for problem in problems)
    assert any("it is not an envelope signed by a trusted key" in problem for problem in problems)


def test_without_a_trusted_key_nothing_is_taken_for_checked(workspace_of_model):
    signing.TRUSTED.unlink()
    (problem,) = not_holding()
    assert "data/signing_keys.pem is missing or holds no public key" in problem


def test_a_provenance_whose_claims_were_altered_is_reported(workspace_of_model):
    import base64

    record = read(layout.PROVENANCE)
    claims = base64.b64decode(record["payload"]).replace(b'"lora"', b'"oft"')
    (EVIDENCE / layout.PROVENANCE).write_text(json.dumps(record | {"payload": base64.b64encode(claims).decode()}))
    key = SSlibKey.from_crypto(load_pem_public_key((EVIDENCE / layout.SIGNING_KEY).read_bytes()))
    with pytest.raises(VerificationError):  # as in-toto's own library finds
        Envelope.from_dict(read(layout.PROVENANCE)).verify([key], 1)
    assert any("it is not an envelope signed by a trusted key" in problem for problem in not_holding())


def signed_again(name, edit):
    """Alter a record and sign the folder anew, as whoever has the key could."""
    record = read(name)
    edit(record)
    (EVIDENCE / name).write_text(layout.as_json(record))
    (EVIDENCE / layout.SIGNATURE).unlink()
    signing.sign_folder(EVIDENCE, signing.KEY)
    assert foreign_verdict().exit_code == 0
    return not_holding()


def test_a_record_that_was_altered_and_signed_anew_disagrees_with_the_others(workspace_of_model):
    def worse(bom):
        next(part for part in bom["components"] if part["type"] == "data")["hashes"][1]["content"] = "0" * 64

    assert any("bom.cdx.json has another hash of data/" in problem for problem in signed_again(layout.BOM, worse))
    problems = signed_again(layout.DATA, lambda record: record["distribution"][0].update(sha256="0" * 64))
    assert any("croissant.json has another hash of data/" in problem for problem in problems)
    problems = signed_again(layout.DECISION, lambda record: record["files"].update(model="0" * 64))
    assert any("decision.json is about other files than those in model" in problem for problem in problems)


def test_a_decision_that_the_history_does_not_have_is_reported(workspace_of_model):
    signed_again(layout.DECISION, lambda record: record.update(reason="because"))
    said = [check.what for check in verification._evidence() if not check.holds]
    assert any("decision.json is not the decision that data/promotions.jsonl has on version 1" in line for line in said)


@pytest.mark.parametrize("name", [layout.DECISION, layout.LOCK, layout.PROVENANCE])
@pytest.mark.parametrize("text", [None, "{"])
def test_a_record_that_is_missing_or_damaged_stops_no_other_check(name, text, workspace_of_model):
    (EVIDENCE / name).unlink()
    if text is not None:
        (EVIDENCE / name).write_text(text)
    bundle.write("r0")
    checks = list(verification._evidence())
    assert any(not check.holds and f"/1: {name}" in check.what for check in checks)
    assert [check.what.partition(":")[0] for check in checks if check.holds] == ["models/evidence/r0"]


def test_a_history_that_was_edited_stops_no_other_check(workspace_of_model):
    line = history.HISTORY.read_text()
    history.HISTORY.write_text(line + line)
    bundle.write("r0")
    checks = list(verification._evidence())
    assert any("an earlier line was edited" in check.what for check in checks if not check.holds)
    assert [check.what.partition(":")[0] for check in checks if check.holds] == [str(EVIDENCE), "models/evidence/r0"]


def test_the_evidence_of_a_version_that_was_promoted_again_still_holds(tmp_path, store):
    made = MadeModel(tmp_path)

    def promoted(weight, loss):
        made.model("models/tuned/r0", weight)
        made.measure("r0", loss, 3.0, seed=1)
        made.lock()
        made.register()
        return promotion.promote()

    decisions = [promoted(2.0, 1.5), promoted(3.0, 1.4), promoted(2.0, 1.3)]
    assert [(line.verdict, line.version) for line in decisions] == [("promoted", n) for n in (1, 2, 1)]
    assert [check.what for check in verification._evidence() if not check.holds] == []


def test_a_lock_with_other_hashes_is_reported(workspace_of_model):
    lock = Path("models/evidence/1/dvc.lock")
    md5 = next(line for line in lock.read_text().splitlines() if "md5: " in line and ".dir" not in line).split()[-1]
    altered(layout.LOCK, md5.encode(), b"0" * 32)
    assert any("dvc.lock has another hash of" in problem for problem in not_holding())


def test_a_record_of_another_shape_is_one_message(workspace_of_model):
    (EVIDENCE / layout.BOM).write_text("[]")
    assert any("another shape" in problem or layout.BOM in problem for problem in not_holding())
