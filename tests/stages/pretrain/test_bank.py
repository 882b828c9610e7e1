"""A bank of domains has one adapter each beside a base that passes through: a new domain trains one more and touches no other."""

import json

import pytest

from tasks.core.records import Document
from tasks.engine.inference.bank import Bank
from tasks.io import tables
from tasks.io.weights import checkpoints
from tests.stages.pretrain.conftest import documents
from tests.stages.trainings import of_members

BANK = {"bank": "domain", "adapter": "lora", "max_tokens": 700, "epochs": 1, "replay": 0.3}


@pytest.fixture
def of_domains(inputs):
    """Put documents of these domains, and general ones, into the tables."""

    def put(*domains):
        for split, count in (("train", 12), ("valid", 3)):
            rows = [row for domain in (*domains, "general") for row in documents(domain, count, split)]
            tables.write(inputs[split], rows, Document)

    return put


def test_a_new_domain_trains_one_adapter_and_touches_no_other(pretrain, of_domains, inputs, tmp_path, trained):
    of_domains("law", "domain")
    output, run = pretrain(**BANK)
    bank = output / checkpoints.BANK
    before = of_members(bank)
    assert set(trained) == {"law", "domain"}
    assert run.said[-1] == "pretrain: a bank of 2 adapters: domain, law"
    assert any(line.startswith("pretrain law: domain loss") for line in run.said)
    trained.clear()
    output.rename(tmp_path / "before")
    of_domains("code", "domain", "law")
    output, run = pretrain(**BANK)
    assert set(trained) == {"code"}
    assert {domain: files for domain, files in of_members(bank).items() if domain != "code"} == before
    assert before["law"] != before["domain"], "each has learnt its own"
    assert sum("taken from the cache" in line for line in run.said) == 2

    assert checkpoints.weights_digest(output) == checkpoints.weights_digest(inputs["base"])
    assert checkpoints.trainable(output) == sum(checkpoints.trainable(bank / name) for name in of_members(bank))
    measured = json.loads((output / "training.json").read_text())["measured"]
    assert measured["domain"][-1][1] < measured["domain"][0][1]
    assert measured["general"][0][1] > 0
    assert Bank(bank, output).names == ("code", "domain", "law"), "they stand on what passed through"
    assert Bank(bank, output).specialists.names == ("code", "domain", "law")
    checkpoints.pass_through(output, tmp_path / "on")
    assert not (tmp_path / "on" / checkpoints.BANK).exists()
    assert checkpoints.weights_digest(tmp_path / "on") == checkpoints.weights_digest(output)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter": "none"}, "pretrain.bank: .*without an adapter the base itself changes"),
        ({"adapter": "pat"}, "'pat' makes the base narrower"),
        ({"expander": "adept", "adapter": "lora"}, "'adept' makes the base larger"),
    ],
)
def test_a_composition_without_one_base_is_refused(pretrain, of_domains, tmp_path, settings, message):
    of_domains("law")
    with pytest.raises(ValueError, match=message):
        pretrain(**BANK | settings)
    assert not (tmp_path / "first" / "model").exists()


def test_without_domains_there_is_no_bank(pretrain, of_domains):
    of_domains()
    with pytest.raises(ValueError, match=r"no domain text.*ingest\.corpora\.domains"):
        pretrain(**BANK)


def test_without_a_bank_the_domains_train_one_model(pretrain, of_domains):
    of_domains("law", "code")
    course = json.loads((pretrain(adapter="lora", max_tokens=400)[0] / "training.json").read_text())
    assert course["sources"].keys() == {"law", "code", "general"}
    assert course["measured"].keys() == {"domain", "general"}
    assert "validation_tokens" not in course
