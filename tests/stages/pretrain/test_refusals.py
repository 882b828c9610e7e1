"""What stage `pretrain` refuses, before anything is trained: texts that are not there, and parts that make no whole model."""

from dataclasses import replace

import pytest

from tasks import methods
from tasks.core.records import Document
from tasks.engine.training import compose
from tasks.io import tables
from tasks.methods.adapters import Adapter, AdapterSpec
from tasks.methods.adapters.none.config import NoneConfig
from tasks.stages.pretrain.config import StageConfig
from tests import tiny as small
from tests.stages.pretrain.conftest import METHODS, documents
from tests.stages.pretrain.test_pretrain import course


def only(inputs, domain):
    """Leave the texts of one corpus."""
    for name in ("train", "valid"):
        rows = [row for row in tables.read(inputs[name], Document) if row.domain == domain]
        tables.write(inputs[name], rows, Document)


def test_missing_texts_are_refused_with_the_setting_that_names_them(pretrain, inputs):
    with pytest.raises(ValueError, match=r"pretrain\.replay=0\.9 of 1,500 tokens is 1,350 tokens of general text"):
        pretrain(replay=0.9)
    only(inputs, "domain")
    with pytest.raises(
        ValueError,
        match=r"no general text.*ingest\.corpora\.general, or set pretrain\.replay and pretrain\.probe\.tokens to 0",
    ):
        pretrain()
    with pytest.raises(ValueError, match="no general text"):
        pretrain(probe={"tokens": 0}, replay=0.1)


def test_without_general_text_the_domain_alone_is_measured(pretrain, inputs):
    only(inputs, "domain")
    output, run = pretrain(probe={"tokens": 0})
    assert course(output)["measured"].keys() == {"domain"}
    assert "pretrain: trained, and there was no general text to validate on" in run.said


@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo", "simpo"])
def test_an_objective_of_answers_is_refused_as_texts_have_none(pretrain, objective):
    with pytest.raises(
        ValueError, match=rf"pretrain\.objective: '{objective}' learns from answers, and texts have none"
    ):
        pretrain("first", METHODS | {objective: {}}, objective=objective)


def test_missing_domain_text_is_refused(pretrain, inputs):
    only(inputs, "general")
    with pytest.raises(ValueError, match=r"holds no domain text. Name its sources in ingest\.corpora\.domain"):
        pretrain()


def test_texts_beyond_the_context_are_refused_with_the_setting(pretrain, inputs, tmp_path):
    inputs["base"] = small.short(inputs["base"], tmp_path / "short", 30)
    with pytest.raises(ValueError, match=r"a text of 128 tokens .* Set pretrain\.pack_tokens: 30 or less"):
        pretrain()


@pytest.mark.parametrize("corpus", ["domain", "general"])
def test_texts_to_validate_on_are_refused_as_those_that_train(pretrain, inputs, tmp_path, corpus):
    inputs["base"] = small.short(inputs["base"], tmp_path / "short", 30)
    short, long = (
        [replace(row, text=row.text[:characters]) for row in (*documents("domain", 5), *documents("general", 5))]
        for characters in (30, 40)
    )
    tables.write(inputs["train"], short, Document)
    tables.write(inputs["valid"], [*short, *(row for row in long if row.domain == corpus)], Document)
    with pytest.raises(ValueError, match=r"a text of 40 tokens .* Set pretrain\.pack_tokens: 30 or less"):
        pretrain(probe={"tokens": 0})


def known(monkeypatch, name, spec, method):
    """Let the registry know one method more."""
    for what, value in (("spec", spec), ("load", method)):
        real = getattr(methods, what)
        monkeypatch.setattr(methods, what, lambda f, n, real=real, value=value: value if n == name else real(f, n))


@pytest.fixture
def stuck(monkeypatch):
    """An adapter that cannot be merged, among the others."""
    known(monkeypatch, "stuck", AdapterSpec(config=NoneConfig, merges=False), Adapter(attach=lambda model, _: model))
    return METHODS | {"stuck": {}}


def test_an_adapter_that_cannot_be_merged_is_refused_before_anything_is_trained(pretrain, stuck):
    with pytest.raises(
        ValueError, match=r"writes a whole model, and adapter 'stuck' cannot be merged.*that can: .*lora"
    ):
        pretrain("first", stuck, adapter="stuck")


def test_an_adapter_over_new_layers_is_refused(pretrain):
    with pytest.raises(ValueError, match="expander 'adept' trains its new layers, and adapter 'lora' freezes them"):
        pretrain(expander="adept", adapter="lora")


def test_a_quantised_base_is_refused(monkeypatch):
    known(monkeypatch, "packed", methods.spec("bases", "none"), methods.load("bases", "none"))
    config = StageConfig.model_validate(
        {"compute": {}, "pretrain": {"base": "packed"}, "methods": METHODS | {"packed": {}}}
    )
    with pytest.raises(ValueError, match="writes a whole model, and base 'packed' stores weights quantised"):
        compose.check(compose.read(config.pretrain, config.methods), standalone=True)
