"""Of a model with a vision tower the decoder and the head train, which are all that a text reads."""

import pytest

from tasks import methods
from tasks.core.training import Start, Training
from tasks.core.weights import surgery
from tasks.engine.inference.decoding import _Batch
from tasks.engine.training import fit, flops
from tests.methods import contract, deep

PEFT = [name for name in methods.names("adapters") if methods.spec("adapters", name).wraps]
CHOSEN = {
    "cofitune": {"selectors": "cofitune"},
    "s2ft": {"selectors": "s2ft"},
    "sherl": {"adapters": "sherl"},
    "lora": {"adapters": "lora"},
}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_method_reads_the_sizes_of_the_decoder(name):
    attached, optimizer = contract.composed(deep.multimodal(), contract.composition(**CHOSEN[name]))
    assert contract.steps(attached, optimizer, contract.composition(**CHOSEN[name])) <= set(attached.trainable)


@pytest.mark.parametrize(
    ("name", "names"), [("biadaptformer", "one norm"), ("mosa", "one norm"), ("pat", "this is a gemma3")]
)
def test_a_method_that_cannot_take_the_family_refuses_it_by_name(name, names):
    with pytest.raises(ValueError, match=names):
        contract.composed(deep.multimodal(), contract.composition(adapters=name))


@pytest.mark.parametrize("selector", ["all", "lisa"])
@pytest.mark.parametrize("optimizer", ["adamw", "mezo"])
def test_what_no_text_reads_stays(selector, optimizer):
    parts = contract.composition(selectors=selector, optimizers=optimizer)
    attached, made = contract.composed(deep.multimodal(), parts)
    read = {
        name for name, _ in attached.model.named_parameters() if name.startswith(("model.language_model", "lm_head"))
    }
    assert set(attached.trainable) == read
    assert contract.steps(attached, made, parts) <= read


@pytest.mark.parametrize("name", PEFT)
def test_peft_adapts_the_decoder_alone_by_the_names_of_layers_too(name):
    targets = ("k_proj", "v_proj", "down_proj") if name == "ia3" else ("k_proj", "v_proj")
    part = contract.part("adapters", name, targets=targets)
    attached = part.method.attach(deep.multimodal(), part.config, Start())
    trained = [name for name, parameter in attached.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".language_model." in name for name in trained if ".layers." in name)
    assert not any("vision" in name for name in trained)


def test_a_layer_of_the_vision_tower_is_no_target():
    with pytest.raises(ValueError, match="targets fc1 match no linear layer of Gemma3ForConditionalGeneration"):
        surgery.sizes(deep.multimodal(), ("fc1",))


def test_its_training_is_counted_by_the_decoder():
    model = deep.multimodal(layers=2)
    counted = flops.count(model)
    decoder = sum(layer.weight.numel() for layer in surgery.linears(model, surgery.ALL_LINEAR).values())
    assert counted.per_token == 6 * decoder
    size = fit.of_model(model, contract.composition(), Training(pack_tokens=256))
    assert size.trains == sum(p.numel() for p in model.get_decoder().parameters())


def test_prompts_of_a_batch_are_read_apart_where_its_decoder_has_windows():
    assert not _Batch(deep.multimodal(layers=1))._shares
