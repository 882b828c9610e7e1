"""What every decoder owes: it is run for each file found in the folder, on models of different sizes and kinds."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from tasks import methods
from tasks.core.records import Message
from tasks.core.sequences import IGNORE
from tasks.engine.chat_template import render_prompt
from tasks.engine.forward import combined_losses, token_losses, use_packed_attention
from tasks.engine.inference import generation
from tasks.engine.inference.steering import steer
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.methods import contract

DECODERS = methods.names("decoders")
PROMPTS = [[Message("user", text)] for text in ("A long question of many words?", "b", "Somewhat shorter")]


def wide(model):
    """Weights so large that what is written depends on what was read."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module", params=contract.MODELS)
def pairs(request, tiny):
    """A main model and two helpers, all of other weights, with the tokenizer of each."""
    kinds = {
        "llama": (small.load(tiny), small.qwen2(), small.load(tiny)),
        "qwen2": (small.qwen2(), small.gpt2(), small.load(tiny)),
    }
    torch.manual_seed(0)
    return [(wide(model), checkpoints.load_tokenizer(tiny)) for model in kinds[request.param]]


def halved(pairs):
    """The same models in bf16."""
    return [(copy.deepcopy(model).bfloat16(), tokenizer) for model, tokenizer in pairs]


def logits(seed):
    return torch.randn(5, 11, generator=torch.Generator().manual_seed(seed))


def combining(name):
    part = contract.part("decoders", name)
    return partial(part.method.combine, config=part.config), len(part.spec.helpers)


def steering(name, pairs, note=lambda logits: logits):
    """What steers the first of `pairs`; `note` is shown the logits of every step."""
    combine, count = combining(name)
    return steer(pairs[0], pairs[1 : 1 + count], lambda main, helpers: note(combine(main, helpers)))


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_returns_logits_of_the_main_models_shape_and_changes_none(name):
    combine, count = combining(name)
    given = [logits(seed) for seed in range(1 + count)]
    found = combine(given[0], given[1:])
    assert (found.shape, found.dtype) == (given[0].shape, given[0].dtype)
    assert all(torch.equal(tensor, logits(seed)) for seed, tensor in enumerate(given))


@pytest.mark.parametrize("name", DECODERS)
def test_a_constant_added_to_any_models_logits_moves_no_probability(name):
    combine, count = combining(name)
    expected = combine(logits(0), [logits(seed) for seed in range(1, 1 + count)]).softmax(dim=1)
    for shifted in range(1 + count):
        given = [logits(seed) + (7.0 if seed == shifted else 0.0) for seed in range(1 + count)]
        torch.testing.assert_close(combine(given[0], given[1:]).softmax(dim=1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DECODERS)
def test_a_row_does_not_depend_on_the_others(name):
    combine, count = combining(name)
    given = [logits(seed) for seed in range(1 + count)]
    alone = [combine(given[0][[row]], [tensor[[row]] for tensor in given[1:]]) for row in range(5)]
    assert torch.equal(combine(given[0], given[1:]), torch.cat(alone))


@pytest.mark.parametrize("name", DECODERS)
def test_helpers_that_agree_leave_the_main_model_alone(name):
    combine, count = combining(name)
    assert torch.equal(combine(logits(0), [logits(1)] * count), logits(0))


@pytest.mark.parametrize("name", [name for name in DECODERS if methods.spec("decoders", name).helpers])
def test_a_decoder_with_helpers_has_the_settings_that_evaluate_asks_for(name):
    spec = methods.spec("decoders", name)
    assert {"steers", "digest"} <= set(spec.config.model_fields)
    assert set(spec.helpers) <= {"expert", "antiexpert"}
    assert not torch.equal(combining(name)[0](logits(0), [logits(1), logits(2)]), logits(0)), "its helpers do nothing"


def encoded(prompt, tokenizer):
    return tokenizer(render_prompt(prompt, tokenizer), add_special_tokens=False, return_tensors="pt")["input_ids"]


@torch.no_grad()
def recomputed(name, pairs, ids):
    """The logits of the next token, (1, V): no cache, one prompt, every model over the whole text."""
    combine, count = combining(name)
    main, *helpers = (model(input_ids=ids, use_cache=False).logits[:, -1].float() for model, _ in pairs[: 1 + count])
    return combine(main, helpers)


def by_hand(name, pairs, prompt, tokens):
    """The tokens that a plain loop writes."""
    tokenizer = pairs[0][1]
    ids = encoded(prompt, tokenizer)
    start = ids.shape[1]
    for _ in range(tokens):
        following = recomputed(name, pairs, ids).argmax(dim=1)
        ids = torch.cat([ids, following[None]], dim=1)
        if following == tokenizer.eos_token_id:
            break
    return ids[0, start:].tolist()


@pytest.mark.parametrize("name", DECODERS)
def test_cached_batches_write_what_recomputing_every_row_alone_writes(pairs, name):
    for model, _ in pairs:
        model.set_attn_implementation("sdpa")
    model, tokenizer = pairs[0]
    expected = [by_hand(name, pairs, prompt, 50) for prompt in PROMPTS]
    assert len(set(map(tuple, expected))) == len(PROMPTS), "the same answer to everything would hide a mix-up"
    texts = tokenizer.batch_decode(expected, skip_special_tokens=True)
    for size in (1, 3):
        found = generation.write(
            model, PROMPTS, tokenizer, max_new_tokens=50, batch_size=size, steering=steering(name, pairs)
        )
        assert found == texts


@pytest.mark.parametrize("name", DECODERS)
def test_in_bf16_cached_batches_see_the_logits_of_recomputing_every_row_alone(pairs, name):
    pairs, seen = halved(pairs), []
    model, tokenizer = pairs[0]
    generation.write(
        model,
        PROMPTS,
        tokenizer,
        max_new_tokens=6,
        batch_size=3,
        steering=steering(name, pairs, lambda logits: seen.append(logits) or logits),
    )
    for row, prompt in enumerate(sorted(PROMPTS, key=lambda prompt: len(prompt[0].content))):
        ids = encoded(prompt, tokenizer)
        for found in seen:
            expected = recomputed(name, pairs, ids)[0]
            assert (found[row] - expected).norm() < 0.1 * expected.norm()
            ids = torch.cat([ids, found[row].argmax()[None, None]], dim=1)
            if ids[0, -1] == tokenizer.eos_token_id:
                break


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
@torch.no_grad()
def test_texts_are_scored_by_the_combined_logits(pairs, name, monkeypatch, dtype):
    pairs = pairs if dtype is torch.float32 else halved(pairs)
    monkeypatch.setattr("tasks.engine.forward.HEAD_ROWS", 4)  # several pieces
    combine, count = combining(name)
    row = contract.batch()
    found = steering(name, pairs).losses(pairs[0][0], row)
    expected = []
    for model, _ in pairs:
        model.set_attn_implementation("sdpa")
    edges = row["boundaries"].tolist()
    for start, end in pairwise(edges):
        ids, labels = row["input_ids"][:, start:end], row["labels"][0, start:end]
        main, *helpers = (model(input_ids=ids).logits[0] for model, _ in pairs[: 1 + count])
        nll = F.cross_entropy(
            combine(main.float(), [helper.float() for helper in helpers]), labels, reduction="none", ignore_index=IGNORE
        )
        expected.append(nll[labels != IGNORE])
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(found, torch.cat(expected), rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_a_model_alone_is_scored_as_everywhere(pairs):
    model, _ = pairs[0]
    use_packed_attention(model)
    found = combined_losses([model], contract.batch(), lambda main, _: main, 259)
    torch.testing.assert_close(found, token_losses(model, contract.batch()), rtol=1e-5, atol=1e-5)
