"""A steered model: its prompts, its draws, and where its answers end."""

import copy

import pytest
import torch

from tasks.engine.inference import generation, prompt_encoding
from tasks.engine.inference.steering import steer
from tests import tiny as small
from tests.engine.inference.test_generation import PROMPTS, drawn


def test_a_steered_model_without_a_chat_template_reads_the_plain_text(pair):
    model, tokenizer = pair
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    steering = steer((model, bare), [], lambda own, _: own)
    found = generation.write(model, PROMPTS[:2], bare, max_new_tokens=8, batch_size=2, steering=steering)
    for prompt, answer in zip(PROMPTS[:2], found, strict=True):
        ids = tokenizer(prompt[0].content, return_tensors="pt")["input_ids"]
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert answer == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_steered_model_draws_from_the_combined_logits(pair):
    same = steer(pair, [pair], lambda own, others: others[0])
    flat = steer(pair, [], lambda own, _: own * 0)
    assert drawn(pair, steering=same) == drawn(pair)
    assert drawn(pair, steering=flat) != drawn(pair)


def test_a_steered_answer_ends_with_the_context_of_each_model_that_reads_it(tiny):
    """GPT-2 has a row for each position: one token beyond the last is an IndexError."""
    _, tokenizer = small.decided(tiny)
    ids = [prompt_encoding.prompt_ids(prompt, tokenizer) for prompt in PROMPTS]
    longest = max(map(len, ids))

    def model(positions):
        sizes = {"n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": len(tokenizer)}
        return small.family("gpt2", **sizes, max_position_embeddings=positions, eos_token_id=None)

    def written(main, helper):
        steering = steer((main, tokenizer), [(helper, tokenizer)], lambda own, others: own + others[0])
        options = {"max_new_tokens": 60, "batch_size": 5, "steering": steering}
        return [each.tokens_written for each in generation.respond(main, PROMPTS, tokenizer, **options)]

    room = [longest + 5 - len(prompt) for prompt in ids]
    assert written(model(longest + 5), model(256)) == written(model(256), model(longest + 5)) == room
    with pytest.raises(ValueError, match=f"A prompt has {longest} tokens, and the context of the model {longest}"):
        written(model(256), model(longest))


def test_a_steered_answer_is_complete_beside_a_longer_one(pair):
    model, tokenizer = pair
    steering = steer(pair, [], lambda own, _: own)
    plain = generation.write(model, PROMPTS, tokenizer, max_new_tokens=12, batch_size=1, steering=steering)
    options = {"max_new_tokens": 12, "stop": [plain[0][:3]], "steering": steering}
    apart, together = (
        [
            (answer.text, answer.ended, answer.tokens_written)
            for answer in generation.respond(model, PROMPTS, tokenizer, batch_size=size, **options)
        ]
        for size in (1, 5)
    )
    assert together == apart
    assert {ended for _, ended, _ in apart} == {True, False}
