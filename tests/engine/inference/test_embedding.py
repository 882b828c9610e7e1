"""A text's vector is its own mean hidden state, whatever shares its row."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from tasks.engine.inference import embedding
from tests import tiny as small

TEXTS = [sequence.ids for sequence in small.sequences(12, seed=3)]


@torch.no_grad()
def by_hand(body, ids):
    return body(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(dim=0).numpy()


def bert():
    torch.manual_seed(0)
    sizes = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertModel(BertConfig(**sizes, intermediate_size=64, initializer_range=0.2)).eval()


@pytest.mark.parametrize("make", [small.qwen2, small.gpt2, bert])
@pytest.mark.parametrize("row_tokens", [1, 40, 1000])
def test_a_vector_is_the_mean_of_a_plain_forward(make, row_tokens):
    model = make().eval()
    found = embedding.pooled(model, TEXTS, row_tokens=row_tokens)
    plain = make().eval()
    body = plain if make is bert else plain.get_decoder()
    np.testing.assert_allclose(found, [by_hand(body, ids) for ids in TEXTS], rtol=1e-4, atol=1e-5)


def test_a_text_is_read_as_far_as_the_context_goes():
    model, text = small.gpt2().eval(), list(range(256)) * 2
    np.testing.assert_array_equal(embedding.pooled(model, [text]), embedding.pooled(model, [text[:256]]))


@pytest.mark.parametrize("family", embedding.ENCODERS)
def test_a_vector_is_the_mean_of_a_plain_forward_in_all_families_of_encoders(family):
    def made():
        sizes = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        names = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64} if family == "distilbert" else {}
        window = {"local_attention": 8, "global_attn_every_n_layers": 2} if family == "modernbert" else {}
        config = AutoConfig.for_model(family, **sizes, num_attention_heads=4, pad_token_id=0, **names, **window)
        torch.manual_seed(0)
        model = AutoModel.from_config(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        return model

    found = embedding.pooled(made(), TEXTS)
    plain = made()
    np.testing.assert_allclose(found, [by_hand(plain, ids) for ids in TEXTS], rtol=1e-4, atol=1e-4)


def test_the_last_hidden_state_is_the_one_before_the_head(tiny):
    model = small.load(tiny).eval()
    (found,) = embedding.pooled(model, [TEXTS[0]])
    plain = small.load(tiny).eval()
    with torch.no_grad():
        states = plain(input_ids=torch.tensor([TEXTS[0]]), output_hidden_states=True).hidden_states[-1]
    np.testing.assert_allclose(found, states[0].mean(dim=0).numpy(), rtol=1e-4, atol=1e-6)


def test_states_by_layer_are_those_of_a_plain_forward_and_the_last_is_the_heads(tiny):
    model = small.load(tiny).eval()
    found = embedding.by_layer(model, TEXTS[:3], row_tokens=30)
    plain = small.load(tiny).eval()
    with torch.no_grad():
        states = plain(input_ids=torch.tensor([TEXTS[1]]), output_hidden_states=True).hidden_states
    depth = plain.config.num_hidden_layers
    expected = [states[round(share * depth)][0].mean(dim=0).numpy() for share in embedding.DEPTHS]
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, -1], embedding.pooled(model, TEXTS[:3]), rtol=1e-4, atol=1e-6)


def test_a_text_without_tokens_is_nowhere(tiny):
    found = embedding.pooled(small.load(tiny), [TEXTS[0], []])
    assert found[0].any()
    assert not found[1].any()


def pipeline(folder, modules, pooling, family):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    rows = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in modules]
    (folder / "modules.json").write_text(json.dumps(rows))
    return folder


MEAN = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


@pytest.mark.parametrize(
    ("family", "more", "pooling", "answer"),
    [
        ("bert", (), MEAN, True),
        ("bert", (("Normalize", "2"),), MEAN, True),
        ("modernbert", (), {"pooling_mode": "mean"}, True),
        ("roberta", (), MEAN, False),
        ("mpnet", (("Normalize", "2"),), MEAN, False),
        ("bert", (("Dense", "2"),), MEAN, False),
        ("bert", (), MEAN | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, False),
        ("bert", (), MEAN | {"pooling_mode_cls_token": True}, False),
    ],
)
def test_only_a_known_transformer_with_the_mean_of_its_tokens_is_taken(tmp_path, family, more, pooling, answer):
    folder = pipeline(tmp_path / "model", (("Transformer", ""), ("Pooling", "1_Pooling"), *more), pooling, family)
    assert embedding.is_encoder(folder) is answer
    if not answer:
        with pytest.raises(ValueError, match="mean pooling alone"):
            embedding.load_encoder(folder, dtype="float32", device="cpu")
