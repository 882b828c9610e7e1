"""Batched greedy decoding writes what decoding one by one writes, in the order of the prompts."""

import copy

import pytest
import torch

from tasks.core.records import Message
from tasks.engine import encode, generation, scoring
from tasks.io import checkpoints
from tests import tiny as small

PROMPTS = [[Message("user", text)] for text in ("A long question of many words?", "b", "", "Somewhat shorter", "é" * 9)]


@pytest.fixture(scope="module")
def pair(tiny):
    """A model whose answers depend on the prompt: random weights, drawn wide."""
    model, tokenizer = checkpoints.load(tiny)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model, tokenizer


def alone(pair, prompt, max_new_tokens):
    """What transformers writes to one prompt, token by token without a cache."""
    model, tokenizer = pair
    text = encode.render_prompt(prompt, tokenizer)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for _ in range(max_new_tokens):
        following = model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
        ids = torch.cat([ids, following.view(1, 1)], dim=1)
        if following == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[0, start:], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_answers_are_those_of_a_plain_loop_in_the_order_of_the_prompts(pair, batch_size):
    model, tokenizer = pair
    found = generation.greedy(model, PROMPTS, tokenizer, max_new_tokens=8, batch_size=batch_size)
    with torch.no_grad():
        assert found == [alone(pair, prompt, 8) for prompt in PROMPTS]
    assert len(set(found)) > 1, "the same answer to everything would hide a mix-up"


def test_the_answers_are_as_long_as_allowed_and_no_longer(pair):
    model, tokenizer = pair
    (text,) = generation.greedy(model, PROMPTS[:1], tokenizer, max_new_tokens=3, batch_size=4)
    assert (
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= 3 * 3
    )  # a byte that is no text decodes to three


def test_a_tokenizer_without_a_padding_token_will_do(pair):
    model, tokenizer = pair
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    found = generation.greedy(model, PROMPTS, bare, max_new_tokens=4, batch_size=5)
    assert found == generation.greedy(model, PROMPTS, tokenizer, max_new_tokens=4, batch_size=5)


def test_no_prompt_no_answer(pair):
    model, tokenizer = pair
    assert generation.greedy(model, [], tokenizer, max_new_tokens=3, batch_size=4) == []


def test_the_batches_pass_through_the_tracker(pair):
    model, tokenizer = pair
    seen = []

    def track(batches):
        for batch in batches:
            seen.append(batch)
            yield batch

    generation.greedy(model, PROMPTS, tokenizer, max_new_tokens=1, batch_size=2, track=track)
    assert sorted(index for batch in seen for index in batch) == list(range(len(PROMPTS)))
    lengths = [len(PROMPTS[index][0].content) for batch in seen for index in batch]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("text", "closed"),
    [("no block", False), ("```python\nx", False), ("```python\nx\n```", True), ("``` ``` ```", True)],
)
def test_an_answer_ends_at_its_first_closed_block(pair, text, closed):
    _, tokenizer = pair
    prompt = tokenizer("```prompt``` ", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt + tokenizer(text, add_special_tokens=False)["input_ids"]])
    assert generation._ClosedBlock(tokenizer, len(prompt))(ids, None).tolist() == [closed]


def test_scoring_and_generation_can_take_turns(pair):
    model, tokenizer = pair
    rows = small.sequences(5)
    first = list(scoring.losses(model, rows))
    written = generation.greedy(model, PROMPTS, tokenizer, max_new_tokens=4, batch_size=2)
    with torch.no_grad():
        assert written == [alone(pair, prompt, 4) for prompt in PROMPTS]
    assert list(scoring.losses(model, rows)) == first
    assert generation.greedy(model, PROMPTS, tokenizer, max_new_tokens=4, batch_size=2) == written


def test_a_steered_model_without_a_chat_template_reads_the_plain_text(pair):
    model, tokenizer = pair
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    steering = generation.steer((model, bare), [], lambda own, _: own)
    found = generation.greedy(model, PROMPTS[:2], bare, max_new_tokens=8, batch_size=2, steering=steering)
    for prompt, answer in zip(PROMPTS[:2], found, strict=True):
        ids = tokenizer(prompt[0].content, return_tensors="pt")["input_ids"]
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert answer == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_model_without_a_chat_template_that_nothing_steers_is_refused(pair):
    model, tokenizer = pair
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ValueError, match="chat_template"):
        generation.greedy(model, PROMPTS, bare, max_new_tokens=1, batch_size=2)
