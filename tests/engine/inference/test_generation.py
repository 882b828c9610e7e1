"""Batched decoding writes what decoding one by one writes, in the order of the prompts; drawn answers follow from their keys."""

import copy

import pytest
import torch

from tasks.core.records import Message
from tasks.engine import chat_template
from tasks.engine.inference import decoding, generation, prompt_encoding, scoring
from tests import tiny as small

KEYS = [f"0 item-{number} 0" for number in range(5)]
PROMPTS = [[Message("user", text)] for text in ("A long question of many words?", "b", "", "Somewhat shorter", "é" * 9)]


def alone(pair, prompt, max_new_tokens):
    """What transformers writes to one prompt, token by token without a cache."""
    model, tokenizer = pair
    text = chat_template.render_prompt(prompt, tokenizer)
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
    found = generation.write(model, PROMPTS, tokenizer, max_new_tokens=8, batch_size=batch_size)
    with torch.no_grad():
        assert found == [alone(pair, prompt, 8) for prompt in PROMPTS]
    assert len(set(found)) > 1, "the same answer to everything would hide a mix-up"


def test_the_answers_are_as_long_as_allowed_and_no_longer(pair):
    model, tokenizer = pair
    (text,) = generation.write(model, PROMPTS[:1], tokenizer, max_new_tokens=3, batch_size=4)
    assert (
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= 3 * 3
    )  # a byte that is no text decodes to three


def test_a_tokenizer_without_a_padding_token_will_do(pair):
    model, tokenizer = pair
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    found = generation.write(model, PROMPTS, bare, max_new_tokens=4, batch_size=5)
    assert found == generation.write(model, PROMPTS, tokenizer, max_new_tokens=4, batch_size=5)


def test_no_prompt_no_answer(pair):
    model, tokenizer = pair
    assert generation.write(model, [], tokenizer, max_new_tokens=3, batch_size=4) == []


def test_the_batches_pass_through_the_tracker(pair):
    model, tokenizer = pair
    seen = []

    def track(batches):
        for batch in batches:
            seen.append(batch)
            yield batch

    generation.write(model, PROMPTS, tokenizer, max_new_tokens=1, batch_size=2, track=track)
    assert sorted(index for batch in seen for index in batch) == list(range(len(PROMPTS)))
    lengths = [len(PROMPTS[index][0].content) for batch in seen for index in batch]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("opened", "text", "closed"),
    [
        ("", "no block", False),
        ("", "```python\nx", False),
        ("", "```python\nx\n```", True),
        ("", "``` ``` ```", False),
        ("", '```python\ndef f():\n    """\n    ```', False),  # in a string of the program
        ("", "<think>\n```python\nx\n```", False),
        ("<think>\n", "```python\nx\n```", False),
        ("<think>\n", "```python\nx\n```\n</think>\n\n```python\ny\n```", True),
    ],
)
def test_a_program_ends_with_its_block_and_another_answer_with_none(pair, opened, text, closed):
    _, tokenizer = pair
    prompt = tokenizer("```\nprompt\n``` " + opened, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt + tokenizer(text, add_special_tokens=False)["input_ids"]])
    reasons = prompt_encoding.opens_reasoning(prompt, tokenizer)
    assert generation.Ended(tokenizer, len(prompt), (), True, reasons)(ids, None).tolist() == [closed]
    assert generation.Ended(tokenizer, len(prompt))(ids, None).tolist() == [False]


def test_scoring_and_generation_can_take_turns(pair):
    model, tokenizer = pair
    rows = small.sequences(5)
    first = list(scoring.losses(model, rows))
    written = generation.write(model, PROMPTS, tokenizer, max_new_tokens=4, batch_size=2)
    with torch.no_grad():
        assert written == [alone(pair, prompt, 4) for prompt in PROMPTS]
    assert list(scoring.losses(model, rows)) == first
    assert generation.write(model, PROMPTS, tokenizer, max_new_tokens=4, batch_size=2) == written


def test_a_model_without_a_chat_template_that_nothing_steers_is_refused(pair):
    model, tokenizer = pair
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ValueError, match="chat_template"):
        generation.write(model, PROMPTS, bare, max_new_tokens=1, batch_size=2)


def drawn(pair, rows=range(5), batch_size=5, temperature=1.0, top_p=1.0, keys=KEYS, **more):
    """What is drawn for these prompts."""
    sampling = generation.Sampling(temperature, top_p, [keys[row] for row in rows])
    prompts = [PROMPTS[row] for row in rows]
    return generation.write(
        pair[0], prompts, pair[1], max_new_tokens=8, batch_size=batch_size, sampling=sampling, **more
    )


def test_a_drawn_answer_follows_from_its_key_whatever_shares_its_batch(pair):
    found = drawn(pair)
    assert found == drawn(pair) == drawn(pair, batch_size=2) == drawn(pair, batch_size=1)
    assert drawn(pair, [3, 0]) == [found[3], found[0]]
    assert found != generation.write(pair[0], PROMPTS, pair[1], max_new_tokens=8, batch_size=5)
    others = drawn(pair, keys=[key + "1" for key in KEYS])
    assert all(one != other for one, other in zip(found, others, strict=True))


@pytest.mark.parametrize("narrow", [{"temperature": 1e-4}, {"top_p": 1e-6}])
def test_a_temperature_near_0_and_a_small_top_p_are_greedy(pair, narrow):
    assert drawn(pair, **narrow) == generation.write(pair[0], PROMPTS, pair[1], max_new_tokens=8, batch_size=5)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    chances, rows = torch.tensor([0.0, 0.5, 0.3, 0.0, 0.15, 0.05, 0.0]), 4000
    processor = generation.Sampling(1.0, 1.0, [str(row) for row in range(rows)]).of(range(rows))
    left = processor(None, chances.log().expand(rows, -1)).softmax(dim=1)
    assert (left.max(dim=1).values == 1).all()
    spread = (chances * (1 - chances) / rows).sqrt()
    assert ((left.mean(dim=0) - chances).abs() <= 4 * spread).all()


def test_temperature_and_top_p_are_those_of_transformers():
    # softmax([2, 1, 0] / 0.5) is [0.865, 0.117, 0.016]; up to 0.9 come the first two, which are 0.881 and 0.119 of them.
    rows = 3000
    processor = generation.Sampling(0.5, 0.9, [str(row) for row in range(rows)]).of(range(rows))
    shares = processor(None, torch.tensor([2.0, 1.0, 0.0]).expand(rows, -1)).softmax(dim=1).mean(dim=0)
    assert shares[0].item() == pytest.approx(0.881, abs=0.025)
    assert shares[2] == 0


def test_an_answer_ends_before_the_first_stop_sequence(pair):
    model, tokenizer = pair
    whole = generation.write(model, PROMPTS, tokenizer, max_new_tokens=8, batch_size=2)
    stop = [whole[0][2:4], whole[0][4:5]]
    found = generation.write(model, PROMPTS, tokenizer, max_new_tokens=8, batch_size=2, stop=stop)
    expected = [min((text.partition(end)[0] for end in stop), key=len) for text in whole]
    assert found == expected
    assert found[0] == whole[0][:2]


def test_stop_sequences_of_the_prompt_end_nothing(pair):
    _, tokenizer = pair
    prompt = tokenizer("END one ", add_special_tokens=False)["input_ids"]
    for text, ended in (("two", False), ("two END", True)):
        ids = torch.tensor([prompt + tokenizer(text, add_special_tokens=False)["input_ids"]])
        assert generation.Ended(tokenizer, len(prompt), ["END"])(ids, None).tolist() == [ended]


def long_and_short(batch_size, pair, stop=(), most=8):
    """Responses to prompts of many lengths, and the rows of each forward that wrote them."""
    model, tokenizer = pair
    prompts = [[Message("user", f"{number} " + "why " * number)] for number in range(1, 13)]
    rows = []
    hook = model.register_forward_hook(lambda _, __, output: rows.append(len(output.logits)))
    texts = generation.write(model, prompts, tokenizer, max_new_tokens=most, batch_size=batch_size, stop=stop)
    hook.remove()
    return texts, rows


def test_a_response_that_ends_leaves_the_batch_and_the_next_prompt_takes_its_place(pair):
    whole, _ = long_and_short(1, pair)
    stop = sorted({text[2] for text in whole if len(text) > 3})[:2]  # some end early
    alone, forwards_alone = long_and_short(1, pair, stop)
    assert len({len(text) for text in alone}) > 2, "responses of one length would leave together"
    for batch_size in (4, 5, 12, 32):
        together, forwards = long_and_short(batch_size, pair, stop)
        assert together == alone
        assert max(forwards) == min(batch_size, 12)
        assert sum(forwards) == sum(forwards_alone), "each row of a forward is a token of a response"
        assert len(forwards) < len(forwards_alone) / 2


def test_memory_that_is_too_small_grows(pair, monkeypatch):
    expected, _ = long_and_short(1, pair, most=24)
    monkeypatch.setattr(decoding, "SLACK", 1)
    assert long_and_short(5, pair, most=24)[0] == expected


def others():
    """Models whose attention is another: biases and grouped heads; a window in every other layer; a window in all."""
    from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

    sizes = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "eos_token_id": 258, "bos_token_id": 257, "pad_token_id": 256}
    window = {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"]}
    yield small.qwen2()
    yield Qwen2ForCausalLM(Qwen2Config(**sizes, **window, num_hidden_layers=2))
    yield MistralForCausalLM(MistralConfig(**sizes, sliding_window=16, num_hidden_layers=2))


def other(which):
    """One of them, with random weights that are drawn wide, so that its answers depend on the prompt."""
    model = list(others())[which].eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("which", range(3))
def test_models_with_other_attention_write_what_they_write_alone(pair, which):
    model, tokenizer = other(which), pair[1]
    with torch.no_grad():
        expected = [alone((model, tokenizer), prompt, 8) for prompt in PROMPTS]
    for batch_size in (1, 2, 5):
        assert generation.write(model, PROMPTS, tokenizer, max_new_tokens=8, batch_size=batch_size) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("asked", [{"min_new_tokens": 4}, {"begin_suppress_tokens": [7]}])
def test_what_counts_from_the_end_of_a_prompt_is_refused_by_name(pair, asked):
    model, tokenizer = copy.deepcopy(pair)
    model.generation_config.update(**asked)
    with pytest.raises(ValueError, match=f"sets {next(iter(asked))}, which counts from the end of each prompt"):
        generation.write(model, PROMPTS, tokenizer, max_new_tokens=8, batch_size=2)


def test_what_the_models_generation_config_asks_for_is_done(pair):
    model, tokenizer = copy.deepcopy(pair)
    plain = generation.write(model, PROMPTS, tokenizer, max_new_tokens=12, batch_size=2)
    model.generation_config.repetition_penalty = 3.0
    expected = []
    for prompt in PROMPTS:
        ids = tokenizer(chat_template.render_prompt(prompt, tokenizer), add_special_tokens=False, return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=12, do_sample=False)
        expected.append(tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    assert generation.write(model, PROMPTS, tokenizer, max_new_tokens=12, batch_size=1) == expected
    assert expected != plain


def test_a_prompt_beyond_the_context_is_refused_and_an_answer_ends_with_it(pair):
    model, tokenizer = copy.deepcopy(pair)
    model.config.max_position_embeddings = 40
    (response,) = generation.continue_from(model, [[7] * 35], tokenizer, max_new_tokens=20, batch_size=1)
    assert (response.tokens_written, response.ended) == (5, False)
    with pytest.raises(
        ValueError, match="A prompt has 40 tokens, and the context of the model 40, its answer included"
    ):
        generation.continue_from(model, [[7], [7] * 40], tokenizer, max_new_tokens=20, batch_size=1)


def test_a_penalty_does_not_count_padding_as_tokens(pair):
    model, tokenizer = copy.deepcopy(pair)
    model.generation_config.repetition_penalty = 3.0
    ids = [[1, 2, 3], list(range(20, 50))]
    expected = [
        generation.continue_from(model, [prompt], tokenizer, batch_size=1, max_new_tokens=8)[0] for prompt in ids
    ]
    for token in tokenizer(expected[0].text, add_special_tokens=False)["input_ids"]:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(token)  # one that the shorter prompt is answered with
        assert generation.continue_from(model, ids, tokenizer, batch_size=2, max_new_tokens=8) == expected


def test_a_text_is_decoded_only_where_a_token_may_end_it(pair):
    class Counting:
        calls = 0

        def decode(self, tokens):
            self.calls += len(tokens) > 1
            return pair[1].decode(tokens)

    counting, text = Counting(), "many words and then the END"
    tokens = pair[1](text, add_special_tokens=False)["input_ids"]
    ended = generation.Ended(counting, 0, ["END"])
    found = [ended.row(tokens[:length]) for length in range(len(tokens) + 1)]
    assert found == [False] * len(tokens) + [True]
    assert counting.calls < len(tokens) / 2


def test_prompts_of_like_length_are_read_together_so_that_little_padding_is_read(pair):
    prompts = [[1] * length for length in (4, 4, 5, 6, 20, 21, 25, 90)]
    groups = list(decoding.alike(prompts))
    assert [list(map(len, group)) for group in groups] == [[4, 4, 5], [6], [20, 21, 25], [90]]
    assert list(decoding.alike([[1, 2]])) == [[[1, 2]]]


def reading(model, tokenizer, prompts, **options):
    """Responses, and how many tokens were read before each was written."""
    read = []
    hook = model.register_forward_pre_hook(
        lambda _, __, inputs: read.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    options = {"max_new_tokens": 1, "batch_size": 8} | options
    texts = generation.write(model, prompts, tokenizer, **options)
    hook.remove()
    return texts, sum(read)


def test_a_batch_of_short_and_long_prompts_reads_few_tokens_more_than_they_have(pair):
    model, tokenizer = pair
    prompts = [[Message("user", f"{length} " + "so " * length)] for length in (1, 2, 30, 33, 90)]
    together, read = reading(model, tokenizer, prompts)
    lengths = [len(prompt_encoding.prompt_ids(prompt, tokenizer)) for prompt in prompts]
    assert sum(lengths) <= read <= 1.25 * sum(lengths) < len(lengths) * max(lengths)
    apart = [generation.write(model, [prompt], tokenizer, max_new_tokens=1, batch_size=1)[0] for prompt in prompts]
    assert together == apart


def test_equal_prompts_are_read_once_and_answered_each_by_its_own_draws(pair):
    model, tokenizer = pair
    prompts = [[Message("user", text)] for text in ("one, two, three", "one") for _ in range(5)]
    sampling = generation.Sampling(1.0, 1.0, [f"key {number}" for number in range(10)])
    apart = [
        generation.write(
            model, [prompt], tokenizer, max_new_tokens=6, batch_size=1, sampling=generation.Sampling(1.0, 1.0, [key])
        )[0]
        for prompt, key in zip(prompts, sampling.keys, strict=True)
    ]
    together, _ = reading(model, tokenizer, prompts, max_new_tokens=6, batch_size=10, sampling=sampling)
    assert together == apart
    assert len(set(together[:5])) > 1
    _, read = reading(model, tokenizer, prompts, batch_size=10)
    assert read == sum(len(prompt_encoding.prompt_ids(prompt, tokenizer)) for prompt in (prompts[0], prompts[5]))


SCHEMAS = "You have these tools, and call one of them or none, as the user asks you to: " * 2


def of_one_system_turn():
    questions = ("which?", "why is that so?", "who?", "when was it, and where?", "how?", "what?", "no")
    return [[Message("system", SCHEMAS), Message("user", text)] for text in questions]


@pytest.mark.parametrize("batch_size", [3, 8])
def test_the_beginning_that_prompts_share_is_read_once(pair, batch_size):
    model, tokenizer = pair
    prompts = of_one_system_turn()
    with torch.no_grad():
        expected = [alone(pair, prompt, 8) for prompt in prompts]
    assert len(set(expected)) > 1
    together, _ = reading(model, tokenizer, prompts, max_new_tokens=8, batch_size=batch_size)
    assert together == expected
    lengths = [len(prompt_encoding.prompt_ids(prompt, tokenizer)) for prompt in prompts]
    _, read = reading(model, tokenizer, prompts, batch_size=batch_size)
    assert read < sum(lengths) / 2


def test_another_beginning_is_read_anew_and_the_last_one_is_kept(pair):
    model, tokenizer = pair
    questions = [f"which one of {number}?" for number in range(8)]
    prompts = [
        [Message("system", text * 2), Message("user", question)]
        for text in ("Answer in one word, and in no more than that. ", "Say what it is and why, in a sentence or two. ")
        for question in questions
    ]
    with torch.no_grad():
        expected = [alone(pair, prompt, 6) for prompt in prompts]
    for batch_size in (1, 4, 16):
        assert reading(model, tokenizer, prompts, max_new_tokens=6, batch_size=batch_size)[0] == expected


@pytest.mark.parametrize("which", range(3))
def test_models_with_a_window_read_prompts_as_a_whole(pair, which):
    model, tokenizer = other(which), pair[1]
    prompts = of_one_system_turn()
    with torch.no_grad():
        expected = [alone((model, tokenizer), prompt, 8) for prompt in prompts]
    together, _ = reading(model, tokenizer, prompts, max_new_tokens=8)
    assert together == expected
    _, read = reading(model, tokenizer, prompts)
    total = sum(len(prompt_encoding.prompt_ids(prompt, tokenizer)) for prompt in prompts)
    assert (read < total / 2) == (which == 0)
