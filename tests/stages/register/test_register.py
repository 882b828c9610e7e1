"""Stage `register` names the candidate for promotion, compressed if `compress` compressed its round, and the reason."""

import json
import re
from dataclasses import replace

import pytest

from tasks import configuration
from tasks.core.promotion.candidate import choose, reference
from tasks.core.records import Example, Lineage, Result
from tasks.core.stage import Model
from tasks.io import provenance, tables
from tasks.stages.register import stage
from tasks.stages.register.config import STAGE, StageConfig
from tests.support import ScratchRun
from tests.test_configuration import ROOT
from tests.tiny import example

MODELS = {
    "base": {"group": "reference", "path": "models/base", "base": "models/base"},
    "r0": {"group": "rounds", "path": "models/tuned/r0", "base": "models/pretrained"},
    "small": {"group": "compressed", "path": "models/compressed", "base": "models/pretrained"},
}
RECORDS = {name: Model.model_validate(model) for name, model in MODELS.items()}


def register_inputs(folder):
    """The inputs of the stage below a folder."""
    files = STAGE.reads | {"compression": "compression.json"}
    return {name: folder / path for name, path in files.items()}


@pytest.fixture
def register(tmp_path):
    """Run the stage with these settings; return its card and its messages."""
    files = {
        "models/tuned/r0": "adapter.json",
        "models/pretrained": "config.json",
        "models/compressed": "delta.safetensors",
    }
    for folder, file in files.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / file).write_text(f"the bytes of {folder}")
    for name in MODELS:
        rows = [Result("domain", str(n), f"g{n}", None, 2.0 * n, n, 4, "", "") for n in (1, 2, 3)]
        tables.write(tmp_path / f"data/gate/{name}.parquet", rows, Result)

    def of(compression, models=MODELS, data="MIT", **gate):
        rows = [example(license=data, domain="rows.jsonl")]
        tables.write(tmp_path / "data/rounds/r0/examples.parquet", rows, Example)
        (tmp_path / "compression.json").write_text(json.dumps(compression))
        run, output = ScratchRun(tmp_path), tmp_path / "candidate.json"
        stage.main(
            register_inputs(tmp_path),
            {"candidate": output},
            StageConfig.model_validate({"gate": gate, "models": models}),
            run,
        )
        return json.loads(output.read_text()), run.said[-1]

    return of


def test_the_round_that_compress_took_is_the_candidate_with_all_files_it_needs(register, tmp_path):
    card, said = register({"round": "r0", "compressor": "none"})
    assert (card["candidate"], card["reference"]) == ("r0", "base")
    assert said == "candidate: r0 (`compress` takes round r0, and stores it as it is)"
    assert {kind: file["path"] for kind, file in card["files"].items()} == {
        "model": "models/tuned/r0",
        "base": "models/pretrained",
    }
    assert card["files"]["base"]["hash"] == provenance.digest(tmp_path / "models/pretrained")
    assert card["results"] == {
        name: provenance.digest(tmp_path / f"data/gate/{name}.parquet") for name in ("r0", "base")
    }
    assert "2.0" not in json.dumps(card)  # what it is worth on the gate set is told when that counts as a look


def test_other_bytes_are_another_candidate(register, tmp_path):
    before, _ = register({"round": "r0", "compressor": "none"})
    again, _ = register({"round": "r0", "compressor": "none"})
    (tmp_path / "models/pretrained/config.json").write_text("other")
    after, _ = register({"round": "r0", "compressor": "none"})
    assert before == again
    assert before["hash"] != after["hash"]


def test_what_is_compressed_comes_before_what_is_not(register):
    assert register({"round": "r0", "compressor": "compeft"})[0]["candidate"] == "small"
    assert register({"round": "r0", "compressor": "compeft"}, candidate="r0")[0]["candidate"] == "r0"


def test_without_models_there_is_no_candidate_and_the_file_says_so(register):
    card, _ = register({"round": "r0", "compressor": "none"}, models={})
    assert card == {"candidate": None, "why": "`models` in params.yaml names no model"}


def test_a_candidate_that_is_not_measured_is_told_with_what_would_do():
    with pytest.raises(ValueError, match=r"no entry with path models/tuned/r1.*Add one"):
        choose(RECORDS, None, {"round": "r1", "compressor": "none"})
    with pytest.raises(ValueError, match=r"gate.candidate: `models` has no 'r9'. There are: base, r0, small"):
        choose(RECORDS, "r9", {})
    with pytest.raises(ValueError, match=r"one model of group `reference`; it has none"):
        reference({"r0": RECORDS["r0"]})


@pytest.mark.parametrize("profile", sorted(ROOT.glob("params/*.yaml")), ids=lambda path: path.stem)
def test_every_profile_measures_its_candidate(profile):
    config = configuration.load(profile)
    for name in config.rounds:
        choose(config.models, config.gate.candidate, {"round": name, "compressor": config.compress.compressor})


CANDIDATE = {"round": "r0", "compressor": "none"}


def test_the_licences_of_base_and_data_leave_terms_for_the_candidate(register):
    card, _ = register(CANDIDATE)
    assert card["licenses"]["notices"] == ["MIT"]
    assert card["licenses"]["unknown"] == {"unknown": ["the base model"]}


def test_a_licence_that_nobody_knows_is_one_message_and_refuses_only_where_settings_are_strict(register, tmp_path):
    run_says = r"no licence is known by the name 'House rules' of rows\.jsonl; 'unknown' of the base model\. `license:`"
    card, _ = register(CANDIDATE, data="House rules")
    assert card["candidate"] == "r0"
    card, said = register(CANDIDATE, data="House rules", licenses="strict")
    assert card["candidate"] is None
    assert re.search(run_says, card["why"])
    assert said == f"candidate: none ({card['why']})"


def test_licences_that_exclude_the_models_own_refuse_it_by_default(register):
    card, _ = register(CANDIDATE, data="CC-BY-ND-4.0")
    assert card["candidate"] is None
    assert card["why"] == "CC-BY-ND-4.0 (rows.jsonl) allows no derived model (`gate.licenses`)"
    card, _ = register(CANDIDATE, data="CC-BY-SA-4.0")
    assert card["licenses"]["licenses"] == ["CC-BY-SA-4.0", "GPL-3.0-only", "GPL-3.0-or-later"]
    assert register(CANDIDATE, data="CC-BY-ND-4.0", licenses="report")[0]["candidate"] == "r0"
    card, _ = register(CANDIDATE, data="CC-BY-SA-4.0", license="Apache-2.0")
    assert card["why"] == "the licence Apache-2.0 is not allowed by CC-BY-SA-4.0 (rows.jsonl) (`gate.licenses`)"


def test_a_bank_is_no_candidate(register, tmp_path):
    bank = {"bank": {"by": "task", "members": {}}}
    (tmp_path / "models/tuned/r0/ratchet.json").write_text(json.dumps(bank))
    card, said = register({"round": "r0", "compressor": "none"})
    assert card["candidate"] is None
    assert "is a bank of adapters, and a version is one model" in said


def test_a_licence_that_nobody_knows_is_a_warning_by_default_that_says_what_would_refuse_it(register, tmp_path):
    said = []
    original = ScratchRun.say
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScratchRun, "say", lambda run, text: (said.append(text), original(run, text)))
        register(CANDIDATE, data="House rules")
        register(CANDIDATE, data="House rules", licenses="strict")
    warnings = [text for text in said if "House rules" in text and not text.startswith("candidate")]
    assert warnings[0].endswith("It is a candidate all the same; `gate.licenses: strict` would refuse it")
    assert "strict" not in warnings[1]


def test_without_an_evaluation_there_is_no_candidate(register, tmp_path):
    (tmp_path / "data/gate/r0.parquet").unlink()
    card, said = register(CANDIDATE)
    assert card["candidate"] is None
    assert re.fullmatch(
        r"r0 has no evaluation: .*data/gate/r0.parquet is missing. `ratchet run evaluate` writes it", card["why"]
    )
    assert said == f"candidate: none ({card['why']})"


def test_the_card_counts_the_origins_of_the_examples(register):
    assert register(CANDIDATE)[0]["origins"] == {"expert": 1}


def rounds(folder, lines, *, second=("a", "b")):
    """A second round of these examples, whose lineage has these lines."""
    made = [replace(example(domain="rows.jsonl", license="MIT"), id=name, round=1) for name in second]
    tables.write(folder / "data/rounds/r1/examples.parquet", made, Example)
    tables.write(folder / "data/rounds/r1/lineage.parquet", lines, Lineage)
    (folder / "models/tuned/r1").mkdir()
    (folder / "models/tuned/r1/adapter.json").write_text("r1")
    models = MODELS | {"r1": {"group": "rounds", "path": "models/tuned/r1", "base": "models/pretrained"}}
    results = folder / "data/gate/r0.parquet"
    results.with_name("r1.parquet").write_bytes(results.read_bytes())
    return models


def made_of(new, parent, generator="tuned", *, accepted=True):
    return Lineage(new, [parent], "improve", generator, "hash", accepted, "", "", "")


def test_a_round_whose_examples_lineage_does_not_tell_is_no_candidate(register, tmp_path):
    first = example(license="MIT").id
    lines = [made_of("a", first), made_of("b", first, accepted=False)]
    card, _ = register({"round": "r1", "compressor": "none"}, models=rounds(tmp_path, lines))
    assert card["candidate"] is None
    assert "r1 has no lineage of 1 of its examples (b)" in card["why"]
    assert "`ratchet run refine`" in card["why"]


def test_a_round_that_lineage_tells_is_one_and_its_origins_are_counted(register, tmp_path):
    first = example(license="MIT").id
    models = rounds(tmp_path, [made_of("a", first), made_of("b", first, "another-model")])
    card, _ = register({"round": "r1", "compressor": "none"}, models=models)
    assert card["candidate"] == "r1"
    assert card["origins"] == {"distilled": 1, "self": 1}


def test_a_round_without_its_examples_is_no_candidate(register, tmp_path):
    models = rounds(tmp_path, [])
    (tmp_path / "data/rounds/r1/examples.parquet").unlink()
    card, _ = register({"round": "r1", "compressor": "none"}, models=models)
    assert re.search(r"r1 has no lineage: .*examples.parquet is missing", card["why"])
