"""MixDA through both stages: `pretrain` trains an adapter a domain, `tune` holds them and trains gate and task adapter."""

import pytest
import torch
from safetensors.torch import load_file

from tasks.core.records import Document
from tasks.core.training import Training
from tasks.engine import encode
from tasks.engine.inference import generation, scoring
from tasks.engine.training import fit
from tasks.io import tables
from tasks.io.weights import banks, checkpoints
from tasks.methods.adapters.mixda.config import SPEC
from tests.stages.pretrain.conftest import METHODS as METHODS_OF_TEXTS
from tests.stages.pretrain.conftest import documents, execute
from tests.stages.trainings import digests, killed_at
from tests.stages.tune.conftest import METHODS, examples

SECTION = {"mixda": {"reduction": 16, "places": [0.0, 0.5], "gate_width": 4, "task_rank": 2}}
OF_TEXTS = {"bank": "domain", "adapter": "mixda", "max_tokens": 600, "epochs": 1, "replay": 0.4, "valid_tokens": 200}


def pretrained(tiny, folder, **config):
    """A base beside which stage `pretrain` put a bank of two domains."""
    for split, count in (("train", 10), ("valid", 2)):
        rows = [row for domain in ("law", "code", "general") for row in documents(domain, count, split)]
        tables.write(folder / f"{split}.parquet", rows, Document)
    inputs = {"base": tiny, "train": folder / "train.parquet", "valid": folder / "valid.parquet"}
    return execute(inputs, folder / "of-texts", METHODS_OF_TEXTS | SECTION, **OF_TEXTS | config)[0]


@pytest.fixture(scope="module")
def with_bank(tiny, tmp_path_factory):
    return pretrained(tiny, tmp_path_factory.mktemp("bank"))


@pytest.fixture
def mixed(tune, inputs, with_bank):
    """Tune by MixDA on a base, the one with the bank if nothing else is said."""

    def of(name="first", base=with_bank, **config):
        inputs["base"] = base
        return tune(name, METHODS | SECTION, adapter="mixda", **{"max_tokens": 600, "epochs": 1} | config)

    return of


def test_the_first_stage_trains_each_domain_apart_from_one_base(with_bank, tiny):
    bank = with_bank / checkpoints.BANK
    assert banks.check(bank, with_bank, mixed_by="mixda").keys() == {"code", "law"}
    with pytest.raises(ValueError, match="'mixda' does not merge"):
        banks.check(bank, with_bank)
    code, law = banks.read_tensors(bank).values()
    assert code.keys() == law.keys()
    assert {name.rpartition(".")[2] for name in law} == set(SPEC.held)
    assert any(tensor.any() for name, tensor in law.items() if "up_NHR" in name)
    assert not all(torch.equal(law[name], code[name]) for name in law)
    member, tokenizer = checkpoints.load(bank / "law", with_bank)
    assert generation.write(member, [examples(1)[0].prompt], tokenizer, max_new_tokens=3, batch_size=1)


def test_the_second_stage_holds_the_domains_and_goes_on_where_it_was_killed(mixed, with_bank, tiny):
    output, _ = mixed()
    saved = load_file(output / checkpoints.OWN_WEIGHTS)
    domains = banks.read_tensors(with_bank / checkpoints.BANK)
    for folder, trained in ((with_bank, output), (tiny, with_bank / checkpoints.BANK / "law")):
        counted = fit.fit(folder, Training(adapter="mixda", pack_tokens=128), METHODS | SECTION)
        assert counted.trains == checkpoints.trainable(trained)
    held = {name: tensor for name, tensor in saved.items() if set(SPEC.held) & set(name.split("."))}
    for name, tensor in held.items():
        kept = [domains[domain][name.replace(".base.", ".")] for domain in ("code", "law")]
        assert torch.equal(tensor, torch.cat(kept)), name
    assert len(held) == len(domains["law"])
    assert {"gate", "task"} & {part for name in saved.keys() - held.keys() for part in name.split(".")}
    assert any(tensor.any() for name, tensor in saved.items() if name.endswith("task.2.weight")), "it was trained"

    model, tokenizer = checkpoints.load(output, with_bank)
    sequences = [encode.example(example, tokenizer) for example in examples(2)]
    assert generation.write(model, [examples(1)[0].prompt], tokenizer, max_new_tokens=3, batch_size=1)
    base, _ = checkpoints.load(with_bank)
    assert scoring.mean(scoring.losses(model, sequences)) != scoring.mean(scoring.losses(base, sequences))

    with killed_at(3):
        mixed("killed")
    resumed, run = mixed("killed")
    assert min(step for step, _ in run.metrics if step is not None) == 3
    assert digests(resumed) == digests(output)


def test_without_a_bank_of_its_own_it_is_refused(mixed, tiny, tmp_path):
    with pytest.raises(
        ValueError, match=r"'mixda' mixes the adapters of a bank, and .* has none: set pretrain\.bank: domain"
    ):
        mixed(base=tiny)
    other = pretrained(tiny, tmp_path, adapter="lora", max_tokens=150, valid_tokens=0)
    with pytest.raises(
        ValueError, match=r"law is an adapter of method lora, and|code is an adapter of method lora, and"
    ):
        mixed(base=other)


def test_without_general_text_no_domain_is_learnt(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"needs general text beside the domain's, and pretrain\.replay is 0"):
        pretrained(tiny, tmp_path, replay=0.0)
