"""Models that read one text after the other write, embed and judge as a plain forward of each text does, and train on its losses."""

import numpy as np
import pytest
import torch

from tasks.core.records import Message
from tasks.core.training import Training
from tasks.engine.inference import embedding, generation, readout
from tasks.engine.inference.steering import steer
from tasks.engine.training import train
from tests import tiny as small
from tests.engine.inference.test_readout import DIGITS, by_hand, trees
from tests.methods import contract

PROMPTS = [[Message("user", text)] for text in ("A long question?", "b", "", "c", "Somewhat shorter")]


@pytest.fixture(params=["qwen3_5_text", "mamba", "gpt_oss"])
def model(request):
    """A model of random weights of a family that reads texts alone."""
    return small.family(request.param, vocab_size=259, **small.ALONE[request.param])


@pytest.fixture
def tokenizer(pair):
    return pair[1]


@torch.no_grad()
def alone(model, ids, most):
    """The likeliest tokens after a prompt, each by a forward of all before it."""
    for _ in range(most):
        following = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()
        ids = [*ids, int(following)]
    return ids


@pytest.mark.parametrize("batch_size", [1, 5])
def test_answers_are_those_of_a_plain_loop_in_the_order_of_the_prompts(model, tokenizer, batch_size):
    ids = [tokenizer(prompt[0].content)["input_ids"] or [5] for prompt in PROMPTS]
    expected = [alone(model, prompt, 8)[len(prompt) :] for prompt in ids]
    model.generation_config.eos_token_id = end = expected[0][4]
    ends = [tokens.index(end) + 1 if end in tokens else 8 for tokens in expected]
    assert len(set(ends)) > 1, "rows of a batch that end at once would hide a mix-up"
    found = generation.continue_from(model, ids, tokenizer, max_new_tokens=8, batch_size=batch_size)
    cut = [tokens[:length] for tokens, length in zip(expected, ends, strict=True)]
    assert [response.text for response in found] == [
        tokenizer.decode(tokens, skip_special_tokens=True) for tokens in cut
    ]
    assert [response.tokens_written for response in found] == ends
    assert [response.ended for response in found] == [end in tokens for tokens in expected]


def test_a_family_that_mixes_up_the_states_of_a_batch_writes_one_answer_at_a_time(tokenizer):
    model = small.family("rwkv", vocab_size=259, attention_hidden_size=32)
    ids = [[5, 6, 7], [7, 8, 9], [5, 6, 7], [4]]
    expected = [tokenizer.decode(alone(model, prompt, 6)[len(prompt) :], skip_special_tokens=True) for prompt in ids]
    found = generation.continue_from(model, ids, tokenizer, max_new_tokens=6, batch_size=4)
    assert [response.text for response in found] == expected


def test_a_penalty_of_the_models_own_config_counts_once(model, tokenizer):
    ids = [[first, 7, 7, first + 1] for first in range(40, 60)]
    model.generation_config.repetition_penalty = 1.15
    found = generation.continue_from(model, ids, tokenizer, max_new_tokens=8, batch_size=20)
    for prompt, response in zip(ids, found, strict=True):
        given = torch.tensor([prompt])
        written = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=8, do_sample=False)
        assert response.text == tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True)


def test_drawn_answers_follow_from_their_keys_whatever_is_in_the_batch(model, tokenizer):
    ids = [tokenizer(text)["input_ids"] for text in ("ab", "cd", "ef")]

    def drawn(places, batch_size):
        sampling = generation.Sampling(1.0, 1.0, [f"key {place}" for place in places])
        chosen = [ids[place] for place in places]
        options = {"max_new_tokens": 6, "batch_size": batch_size, "sampling": sampling}
        return [answer.text for answer in generation.continue_from(model, chosen, tokenizer, **options)]

    assert drawn([0, 1, 2], 3) == drawn([0, 1, 2], 1)
    assert drawn([2, 0], 2) == [drawn([0, 1, 2], 3)[place] for place in (2, 0)]


def test_a_vector_is_the_mean_of_a_plain_forward(model):
    texts = [sequence.ids for sequence in small.sequences(6, seed=3)]
    found = embedding.pooled(model, texts)
    with torch.no_grad():
        states = [model.get_decoder()(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in texts]
    np.testing.assert_allclose(found, [one.mean(dim=0).numpy() for one in states], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "rwkv", "falcon_mamba", "qwen3_5_text", "gpt_oss"])
def test_states_of_a_layer_are_what_it_reads_whatever_the_family_calls_them(name):
    sizes = {
        "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8},
        "rwkv": {"attention_hidden_size": 32},
    }
    model = small.family(name, vocab_size=259, **small.ALONE.get(name, sizes.get(name, {})))
    text, body, read = small.sequences(1, seed=3)[0].ids, model.get_decoder(), []
    for layer in getattr(body, "blocks" if name == "rwkv" else "layers"):
        layer.register_forward_pre_hook(lambda _, given: read.append(given[0][0].mean(dim=0)))
    with torch.no_grad():
        last = body(input_ids=torch.tensor([text])).last_hidden_state[0].mean(dim=0)
    expected = [read[0], read[1], last]
    found = embedding.by_layer(model, [text], depths=(0.0, 0.5, 1.0))
    np.testing.assert_allclose(found[0], [one.numpy() for one in expected], rtol=1e-4, atol=1e-5)


def test_the_odds_are_those_of_a_plain_forward(model):
    found = readout.log_odds(model, trees(3), DIGITS)
    for tree, odds in zip(trees(3), found, strict=True):
        np.testing.assert_allclose(odds, by_hand(model, tree), rtol=1e-4, atol=1e-4)


def test_it_steers_nobody_and_is_steered_by_nobody(model, tokenizer, pair):
    for models in [((model, tokenizer), [pair]), (pair, [(model, tokenizer)])]:
        with pytest.raises(ValueError, match="reads one text at a time, and models that steer each other read padded"):
            steer(*models, lambda own, others: own)


@pytest.mark.parametrize("chosen", [{"sparsifiers": "lemo"}, {"adapters": "mola"}, {"optimizers": "zo2"}])
def test_what_goes_by_a_row_as_a_whole_is_refused(chosen):
    model = small.family("qwen3_5_text", **small.ALONE["qwen3_5_text"])
    ((_, name),) = chosen.items()
    with pytest.raises(ValueError, match=f"one after the other, and .* '{name}' goes by a row as a whole"):
        contract.composed(model, contract.composition(**chosen))


TRAINED = [{"adapters": "lora"}, {"adapters": "corda"}, {"selectors": "s2ft"}, {"objectives": "fait"}]


@pytest.mark.parametrize("chosen", TRAINED, ids=lambda chosen: next(iter(chosen.values())))
def test_it_trains_with_parts_that_look_at_what_its_layers_read(tmp_path, chosen):
    name = "qwen3_5_text" if "selectors" in chosen else "gpt_oss"
    model = small.family(name, vocab_size=259, **small.ALONE[name])
    sequences = [small.paired(sequence) for sequence in small.sequences(12, seed=4)]
    plan = Training(pack_tokens=48, accumulation=1, max_tokens=10_000, epochs=3, save_every=0)
    data = train.TrainData(sequences, {"validation": sequences[:4]}, sequences[:6])
    result = train.train(model.train(), data, contract.composition(**chosen), plan, small.FP32, tmp_path)
    assert result.trainable
    assert result.losses[-1][2] < result.losses[0][2]
