"""What the proxy-tuning paper promises, on a LLaMA steered by two small ones.

`data/proxy_tuning.json` has what the authors' DExpertsLlama wrote with three models of the same numbers.
Not here: the paper's tables, and the share of the gap that a proxy closes on public models (hours and downloads).
"""

import copy

import pytest
import torch
from tokenizers import AddedToken

from tasks.core.records import Message
from tasks.core.sequences import Encoded
from tasks.engine.chat_template import render_prompt
from tasks.engine.forward import token_losses
from tasks.engine.inference import generation, scoring
from tasks.engine.inference.steering import Steering, steer
from tasks.io.weights import checkpoints
from tasks.methods.decoders.proxy_tuning.config import ProxyTuningConfig
from tasks.methods.decoders.proxy_tuning.method import combine
from tests import tiny as small
from tests.methods.official import frozen, same, wave

SMALL = {"alpha": 0.7}
PROMPTS = [[Message("user", text)] for text in ("A long question of many words?", "b", "Somewhat shorter")]


def llama(seed, *, vocabulary=259, layers=2):
    """A LLaMA whose weights are drawn so wide that its answers depend on the prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"eos_token_id": 258, "bos_token_id": 258, "pad_token_id": 256}
    config = LlamaConfig(vocab_size=vocabulary, num_hidden_layers=layers, initializer_range=0.3, **sizes, **ends)
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def tokenizer(tiny):
    return checkpoints.load_tokenizer(tiny)


def steered(tokenizer, main, expert, antiexpert, alpha=1.0):
    config = ProxyTuningConfig(alpha=alpha)
    return steer(
        (main, tokenizer),
        [(expert, tokenizer), (antiexpert, tokenizer)],
        lambda own, helpers: combine(own, helpers, config),
    )


def write(model, tokenizer, steering=None, prompts=PROMPTS, tokens=40):
    return generation.write(
        model, prompts, tokenizer, max_new_tokens=tokens, batch_size=len(prompts), steering=steering
    )


def nats(model, steering=None):
    """The loss of each of some random sequences."""
    nll = {"nll": steering.losses} if steering else {}
    return torch.tensor([loss.nats for loss in scoring.losses(model, small.sequences(6), **nll)])


def test_one_step_is_the_official_combination():
    # modeling/dexperts.py of the authors: base + alpha * (expert - antiexpert), on the logits, before any processor.
    main, expert, antiexpert = torch.tensor([[[1.0, 2.0, 4.0]], [[3.0, 0.0, 1.0]], [[1.0, 1.0, 1.5]]])
    found = combine(main, [expert, antiexpert], ProxyTuningConfig(alpha=2.0))
    assert found.tolist() == [[5.0, 0.0, 3.0]]
    # and so p is proportional to p_M (p_M+ / p_M-)^alpha
    ratio = main.softmax(1) * (expert.softmax(1) / antiexpert.softmax(1)) ** 2
    torch.testing.assert_close(found.softmax(1), ratio / ratio.sum())


@torch.no_grad()
def test_the_first_step_of_a_toy_trio_is_the_official_one(tokenizer):
    models = [llama(seed) for seed in range(3)]
    ids = tokenizer("any prefix at all", return_tensors="pt")["input_ids"]
    main, expert, antiexpert = (model(input_ids=ids).logits[:, -1, :] for model in models)
    seen = []

    def keep(_, scores):
        seen.append(scores.clone())
        return scores

    models[0].generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=256,
        logits_processor=[keep],
        custom_generate=raw(steered(tokenizer, *models, alpha=0.7), "any prefix at all"),
    )
    torch.testing.assert_close(seen[0], main + 0.7 * (expert - antiexpert), rtol=0, atol=1e-5)


def raw(steering, text):
    """A loop whose helpers read this text as it is."""
    bare = [(model, copy.deepcopy(tokenizer)) for model, tokenizer in steering.helpers]
    for _, tokenizer in bare:
        tokenizer.chat_template = None
    return Steering(bare, steering.combine, steering.vocabulary).beside([[Message("user", text)]])


def by_formula(phase):
    """The small LLaMA that the official code was given."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    ends = {"eos_token_id": 258, "bos_token_id": 258, "pad_token_id": 256}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=259, num_hidden_layers=2, **sizes, **ends))
    for number, parameter in enumerate(model.parameters()):
        if parameter.ndim == 2:
            parameter.data = 0.5 * wave(*parameter.shape, phase=phase + number, dtype=torch.float32)
    return model.eval()


@pytest.mark.parametrize("alpha", [0.7, 2.0])
def test_what_is_written_and_its_logits_are_those_of_the_official_code(tokenizer, alpha):
    """It ran in float64 and without a cache: under transformers 5 its way of keeping one no longer works."""
    expected, seen = frozen("proxy_tuning")["alpha"][str(alpha)], []
    ids = torch.tensor([[5, 17, 40, 3, 77]])
    main, *helpers = (by_formula(phase) for phase in (0.0, 100.0, 200.0))
    steering = steered(tokenizer, main, *helpers, alpha=alpha)

    def keep(_, scores):
        seen.append(scores[0].clone())
        return scores

    text = tokenizer.decode(ids[0])
    assert tokenizer(text)["input_ids"] == ids[0].tolist()
    found = main.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        logits_processor=[keep],
        custom_generate=raw(steering, text),
    )
    assert found[0, 5:].tolist() == expected["tokens"]
    chosen = torch.stack([scores[token] for scores, token in zip(seen, expected["tokens"], strict=True)])
    same(chosen, expected["logit_of_the_token"], atol=1e-4)
    same(seen[0][:20], expected["first_logits"], atol=1e-4)
    same(seen[1][:20], expected["second_logits"], atol=1e-4)


def test_alpha_0_is_the_main_model_exactly(tokenizer):
    main, expert, antiexpert = (llama(seed) for seed in range(3))
    steering = steered(tokenizer, main, expert, antiexpert, alpha=0)
    assert write(main, tokenizer, steering) == write(main, tokenizer)
    nobody = steer((main, tokenizer), [], lambda own, _: own)
    assert torch.equal(nats(main, steering), nats(main, nobody))
    torch.testing.assert_close(nats(main, steering), nats(main), rtol=1e-6, atol=0)


def test_an_expert_like_its_antiexpert_leaves_the_main_model(tokenizer):
    main, same = llama(0), llama(1)
    steering = steered(tokenizer, main, same, same)
    assert write(main, tokenizer, steering) == write(main, tokenizer)
    torch.testing.assert_close(nats(main, steering), nats(main), rtol=1e-6, atol=0)


def test_a_main_model_like_the_antiexpert_becomes_the_expert(tokenizer):
    main, expert = llama(0), llama(1)
    steering = steered(tokenizer, main, expert, main)
    assert write(main, tokenizer, steering) == write(expert, tokenizer) != write(main, tokenizer)
    torch.testing.assert_close(nats(main, steering), nats(expert), rtol=1e-6, atol=0)


def test_a_second_call_starts_from_nothing(tokenizer):
    main, expert, antiexpert = (llama(seed) for seed in range(3))
    steering = steered(tokenizer, main, expert, antiexpert)
    first = write(main, tokenizer, steering)
    assert first != write(main, tokenizer)
    assert write(main, tokenizer, steering, PROMPTS[:1]) == first[:1]
    assert write(main, tokenizer, steering) == first


def test_padded_vocabularies_are_trimmed_to_the_shared_tokens(tokenizer):
    main, expert, antiexpert = llama(0, vocabulary=300), llama(1, vocabulary=280), llama(2)
    with torch.no_grad():
        main.lm_head.weight[259:] *= 100  # what stands in padding rows would win
    steering = steered(tokenizer, main, expert, antiexpert)
    assert steering.vocabulary == 259
    cut = copy.deepcopy(main)
    cut.resize_token_embeddings(259)
    assert write(main, tokenizer, steering) == write(cut, tokenizer, steered(tokenizer, cut, expert, antiexpert))
    torch.testing.assert_close(nats(main, steering), nats(cut, steering), rtol=0, atol=0)


def test_a_token_that_only_the_expert_knows_is_not_written_and_not_scored(tokenizer):
    knows = copy.deepcopy(tokenizer)
    knows.add_tokens([AddedToken("<call>", special=True)])
    models = [llama(seed, vocabulary=264) for seed in range(3)]
    helpers = [(models[1], knows), (models[2], tokenizer)]
    steering = steer((models[0], tokenizer), helpers, lambda own, _: own)
    assert steering.vocabulary == knows.convert_tokens_to_ids("<call>") == 259
    low = Steering(helpers, lambda own, _: own - 1000, 259)  # what is not written is lower still
    assert write(models[0], tokenizer, low) == write(models[0], tokenizer, steering)
    batch = {"input_ids": torch.tensor([[3, 259]])}
    with pytest.raises(ValueError, match="The text holds token 259, and the models share only those below 259"):
        steering.losses(models[0], batch)


def test_models_of_different_tokenizers_are_refused_in_a_sentence(tokenizer):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: 258 - number for token, number in tokenizer.get_vocab().items()}
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[])))
    with pytest.raises(
        ValueError, match=r"different tokenizers cannot steer each other: token 0 is '!' in .* and '<\|im_end\|>'"
    ):
        steer((llama(0), tokenizer), [(llama(1), other)], lambda own, _: own)


def test_each_model_reads_the_prompt_in_its_own_form(tokenizer):
    # The paper: a chat expert is given its chat prompt, the untuned models the plain one.
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = plain.pad_token = None
    main, expert, antiexpert = (llama(seed) for seed in range(3))
    steering = steer(
        (main, tokenizer), [(expert, tokenizer), (antiexpert, plain)], lambda own, pair: own + pair[0] - pair[1]
    )
    found = write(main, tokenizer, steering, tokens=12)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        chat = tokenizer(render_prompt(prompt, tokenizer), return_tensors="pt")["input_ids"]
        bare = tokenizer(prompt[0].content, return_tensors="pt")["input_ids"]
        written = []
        with torch.no_grad():
            while len(written) < 12 and 258 not in written:
                tail = torch.tensor([written], dtype=torch.long)
                s = [
                    model(input_ids=torch.cat([start, tail], dim=1)).logits[0, -1]
                    for model, start in ((main, chat), (expert, chat), (antiexpert, bare))
                ]
                written.append(int((s[0] + s[1] - s[2]).argmax()))
        assert answer == tokenizer.decode(written, skip_special_tokens=True)


def sampled(models, tokenizer, **config):
    """60 tokens written after one prefix with seed 0, or those up to an end of turn."""
    torch.manual_seed(0)
    ids = tokenizer("any prefix", return_tensors="pt")["input_ids"]
    loop = raw(steered(tokenizer, *models, alpha=0.7), "any prefix")
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 60, "pad_token_id": 256, "eos_token_id": None}
    return models[0].generate(input_ids=ids, custom_generate=loop, **options | config)[0, ids.shape[1] :].tolist()


def test_the_temperature_acts_on_the_combined_logits(tokenizer):
    models = [llama(seed) for seed in range(3)]
    drawn = sampled(models, tokenizer, do_sample=True, temperature=1.5, top_k=0)
    torch.manual_seed(0)
    ids = tokenizer("any prefix", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        for token in drawn:
            main, expert, antiexpert = (model(input_ids=ids).logits[:, -1] for model in models)
            s = (main + 0.7 * (expert - antiexpert)) / 1.5
            assert token == int(torch.multinomial(s.softmax(dim=1), 1))
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)


def test_a_temperature_near_0_and_a_small_top_p_are_greedy(tokenizer):
    models = [llama(seed) for seed in range(3)]
    expected = sampled(models, tokenizer, do_sample=False)
    assert len(set(expected)) > 3
    assert sampled(models, tokenizer, do_sample=True, temperature=1e-4, top_k=0) == expected
    assert sampled(models, tokenizer, do_sample=True, top_p=1e-6, top_k=0) == expected


def test_a_processor_acts_on_the_combined_logits(tokenizer):
    models = [llama(seed) for seed in range(3)]
    never = sampled(models, tokenizer, do_sample=False)[0]
    found = sampled(models, tokenizer, do_sample=False, suppress_tokens=[never])
    assert never not in found


def test_the_main_models_end_of_turn_ends_the_answer(tokenizer):
    models = [llama(seed) for seed in range(3)]
    whole = sampled(models, tokenizer, do_sample=False)
    for helper in models[1:]:
        helper.generation_config.eos_token_id = whole[0]
    assert whole[0] != whole[5]
    cut = sampled(models, tokenizer, do_sample=False, eos_token_id=whole[5])
    assert cut == whole[: whole.index(whole[5]) + 1]


def test_beams_are_refused(tokenizer):
    models = [llama(seed) for seed in range(3)]
    with pytest.raises(ValueError, match="no beams"):
        sampled(models, tokenizer, do_sample=False, num_beams=2)


def chain(seed, changed=0):
    """Which token follows which: rows of probabilities over 16 tokens, of which `changed` are others than those of seed 0."""
    rows = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).mul(2).softmax(dim=1)
    others = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(dim=1)
    return torch.cat([others[:changed], rows[changed:]])


def drawn(table, count, seed):
    """Texts of 24 tokens."""
    source = torch.Generator().manual_seed(seed)
    ids = torch.randint(16, (count, 1), generator=source)
    for _ in range(23):
        following = torch.multinomial(table[ids[:, -1]], 1, generator=source)
        ids = torch.cat([ids, following], dim=1)
    return ids


def taught(model, ids, steps=60):
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        rows = ids[step * 16 % len(ids) :][:16]
        optimizer.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    return model.eval()


def test_a_small_tuned_model_brings_a_larger_one_near_to_where_tuning_would(tokenizer):
    # The card's experiment in seconds: M and M- know text A, M+ is M- tuned on text B. Measured on B.
    a, b = drawn(chain(0), 256, 1), drawn(chain(7, changed=8), 256, 2)
    main, antiexpert = (taught(narrow(width), a) for width in (64, 24))
    expert, ceiling = taught(antiexpert, b), taught(main, b)
    held_out = [Encoded(str(n), row.tolist(), [1.0] * 24) for n, row in enumerate(drawn(chain(7, changed=8), 64, 3))]
    config = ProxyTuningConfig()
    steering = steer(
        (main, tokenizer),
        [(expert, tokenizer), (antiexpert, tokenizer)],
        lambda own, helpers: combine(own, helpers, config),
    )
    alone, proxy, tuned = (
        scoring.mean(scoring.losses(model, held_out, nll=nll))
        for model, nll in ((main, token_losses), (main, steering.losses), (ceiling, token_losses))
    )
    assert alone - tuned > 0.5, "there was nothing to learn"
    assert (alone - proxy) / (alone - tuned) > 0.5


def narrow(width):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(width)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=259, num_key_value_heads=2, **sizes))
