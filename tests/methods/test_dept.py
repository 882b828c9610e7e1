"""DePT reads [P; E + c A B] where the base reads E; with rank 0 it is prompt tuning, as peft has it.

One promise of the paper is not held here, since it takes a download: the authors' T5 checkpoints score as published. What takes
minutes, its loss and its time beside prompt tuning of equal size, stands in `docs/claims/dept.json`; here a step's cost is counted.
"""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.records import Message
from tasks.core.training import Start
from tasks.engine import chat_template
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.inference import generation, scoring
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.io.weights import checkpoints
from tasks.methods.adapters.dept.config import DeptConfig
from tasks.methods.adapters.dept.method import attach, first_tensors, rates
from tests import tiny as small
from tests.methods.contract import composition, part

SMALL = {"num_tokens": 4, "rank": 3, "max_tokens": 64}
PARAMS = DeptConfig(**SMALL)
OFFICIAL = DeptConfig(**SMALL, align="official")
PROMPTS = [[Message("user", text)] for text in ("A long question?", "b", "")]


def trainable(model, params):
    """m d + (s + d) r."""
    width = model.get_input_embeddings().weight.shape[1]
    return params.num_tokens * width + (params.max_tokens + width) * params.rank


def wide(model):
    """The model with weights so wide that every token it reads moves what it says."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2"])
def base(request, tiny):
    make = {"llama": lambda: small.load(tiny), "qwen2": small.qwen2, "gpt2": small.gpt2}[request.param]
    return wide(make())


def trained(base, params=PARAMS):
    """The base with an adapter whose B is no longer 0."""
    torch.manual_seed(0)
    model = attach(copy.deepcopy(base), params, Start())
    dept = model.get_decoder().dept
    if params.rank:
        nn.init.normal_(dept["B"], std=0.3)
    return model, dept


def by_hand(base, dept, ids, params, source=None):
    """The logits of the plain model that is given [P; E + c A B], (T, V). Tokens after the first `source` have no offset."""
    embedded = base.get_input_embeddings()(torch.tensor([ids]))
    source = len(ids) if source is None else source
    if params.rank:
        first = params.max_tokens - source if params.align == "official" else 0
        product = params.alpha / params.rank**0.5 * dept["A"] @ dept["B"]
        embedded = torch.cat([embedded[:, :source] + product[first : first + source], embedded[:, source:]], dim=1)
    if params.num_tokens:
        embedded = torch.cat([dept["prompt"][None], embedded], dim=1)
    return base(inputs_embeds=embedded, use_cache=False).logits[0, params.num_tokens :]


def nll(logits, sequence):
    each = F.cross_entropy(logits[:-1], torch.tensor(sequence.ids[1:]), reduction="none")
    return each[torch.tensor(sequence.weights[1:]) > 0]


# What is trained


@pytest.mark.parametrize(("tokens", "rank"), [(20, 60), (40, 45), (60, 30), (80, 15), (100, 0)])
def test_the_papers_ways_to_split_a_prompt_of_100_tokens_are_all_of_76_800_numbers(tokens, rank):
    first = first_tensors(nn.Embedding(9, 768), DeptConfig(num_tokens=tokens, rank=rank, max_tokens=256))
    assert sum(tensor.numel() for tensor in first.values()) == 76_800


def test_the_default_is_one_of_these_pairs_and_of_their_size_at_their_width_and_length_alone():
    def size(width, **config):
        return sum(tensor.numel() for tensor in first_tensors(nn.Embedding(9, width), DeptConfig(**config)).values())

    assert (DeptConfig().num_tokens, DeptConfig().rank) == (60, 30)
    assert size(768, max_tokens=256) == 76_800
    assert size(768) == 99_840, "sequences of up to 1,024 tokens have longer offsets"


def test_the_first_weights_are_words_of_the_vocabulary_small_noise_and_zero():
    words = nn.Embedding(9, 768, dtype=torch.bfloat16)
    first = first_tensors(words, DeptConfig(num_tokens=20, rank=16, max_tokens=256))
    assert {tensor.dtype for tensor in first.values()} == {torch.float32}
    same = (first["prompt"][:, None] == words.weight.float()).all(dim=2)
    assert same.any(dim=1).all()
    assert same.any(dim=0).sum() > 3, "always the same words"
    assert first["A"].abs().max() <= 1 / 4, "Kaiming: sqrt(6 / ((1 + 5) 16))"
    assert first["A"].std().item() == pytest.approx(1 / 4 / 3**0.5, rel=0.05)
    assert not first["B"].any()


def test_the_prompt_has_a_learning_rate_of_its_own(tiny):
    parts = replace(composition(), adapter=part("adapters", "dept"))
    attached = compose.compose(small.load(tiny), parts, None, 0)
    made = parts.optimizer.method.make(
        compose.groups(attached, parts), part("optimizers", "adamw", learning_rate=5e-4).config, 0
    )
    found = {id(p): group["lr"] for group in made.param_groups for p in group["params"]}
    dept = attached.model.get_decoder().dept
    assert {name: found[id(p)] for name, p in dept.items()} == pytest.approx({"prompt": 3e-1, "A": 5e-4, "B": 5e-4})
    assert list(rates(attached.model, parts.adapter.config)) == ["model.dept.prompt"]


@pytest.mark.parametrize("make", [small.qwen2, small.gpt2])
def test_a_prompt_that_learns_as_slowly_as_the_offsets_learns_less(make):
    """The paper's ablation, on two sequences to be learnt by heart in 40 steps; 60 is the ratio for narrow embeddings."""
    rows = torch.tensor([[9, 8, 7, 6, 5, 4], [1, 2, 3, 1, 2, 3]])

    def course(rate):
        parts = replace(composition(), adapter=part("adapters", "dept", prompt_rate=rate))
        attached = compose.compose(wide(make()), parts, None, 0)
        optimizer = parts.optimizer.method.make(
            compose.groups(attached, parts), part("optimizers", "adamw", learning_rate=5e-4).config, 0
        )
        losses = []
        for _ in range(40):
            logits = attached.model.lm_head(attached.model.get_decoder()(rows).last_hidden_state)[:, :-1]
            losses.append(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))
            losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
        assert losses[-1] < losses[0] - 1, "nothing was learnt"
        return losses[-1].item(), len(optimizer.param_groups)

    (two, of_two), (equal, of_one) = course(60.0), course(1.0)
    assert two < equal / 2
    assert (of_two, of_one) == (2, 1)


def test_at_the_start_only_P_and_B_have_a_gradient_that_is_not_zero(base):
    model = attach(copy.deepcopy(base), PARAMS, Start())
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if ".dept." in name
    }
    dept = model.get_decoder().dept
    assert dept["prompt"].grad.abs().sum(dim=1).all()
    assert dept["B"].grad.any()
    assert torch.equal(dept["A"].grad, torch.zeros_like(dept["A"]))


# What is computed


@torch.no_grad()
def test_at_the_start_it_computes_what_prompt_tuning_computes(base):
    (dept, _), (plain, _) = (trained(base, DeptConfig(num_tokens=4, rank=rank)) for rank in (3, 0))
    nn.init.zeros_(dept.get_decoder().dept["B"])
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(dept.get_decoder().dept["prompt"], plain.get_decoder().dept["prompt"])
    torch.testing.assert_close(dept(ids).logits, plain(ids).logits, rtol=0, atol=1e-6)


@torch.no_grad()
def test_at_the_start_and_without_a_prompt_it_computes_what_the_base_computes(base):
    model = attach(copy.deepcopy(base), DeptConfig(num_tokens=0, rank=3), Start())
    ids, row = torch.tensor([[3, 1, 4, 1, 5]]), collate([Pack(tuple(small.sequences(4)))])
    torch.testing.assert_close(model(ids).logits, base(ids).logits, rtol=0, atol=1e-6)
    packed = copy.deepcopy(base)
    for one in (model, packed):
        use_packed_attention(one)
    torch.testing.assert_close(token_losses(model, row), token_losses(packed, row), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [PARAMS, OFFICIAL, DeptConfig(num_tokens=4, rank=0), DeptConfig(num_tokens=0, rank=3, max_tokens=64)],
    ids=["dept", "official", "prompt tuning", "no prompt"],
)
def test_packed_losses_and_their_gradients_are_those_of_one_sequence_at_a_time(base, params):
    model, dept = trained(base, params)
    sequences = small.sequences(7, seed=3)
    expected = torch.cat([nll(by_hand(base, dept, s.ids, params), s) for s in sequences])
    wanted = torch.autograd.grad(expected.mean(), list(dept.values()))
    use_packed_attention(model)
    found = token_losses(model, collate([Pack(tuple(sequences))]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    for one, other in zip(torch.autograd.grad(found.mean(), list(dept.values())), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_it_is_fed_by_tokens_or_by_embeddings_by_position_or_by_name(base):
    model, dept = trained(base)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    expected = by_hand(base, dept, ids[0].tolist(), PARAMS)[None]
    torch.testing.assert_close(model(ids).logits, expected)
    torch.testing.assert_close(model(inputs_embeds=base.get_input_embeddings()(ids)).logits, expected)
    torch.testing.assert_close(model.get_decoder()(ids)[0], model.get_decoder()(input_ids=ids)[0])


@torch.no_grad()
def test_a_copy_of_the_model_reads_its_own_prompt(base):
    model, dept = trained(base)
    ids = [3, 1, 4, 1, 5]
    expected = by_hand(base, dept, ids, PARAMS)[None]
    other = copy.deepcopy(model)
    nn.init.zeros_(dept["prompt"])
    torch.testing.assert_close(other(torch.tensor([ids])).logits, expected)


@pytest.mark.filterwarnings("ignore")  # peft 0.21 on transformers 5.24
def test_rank_0_is_the_prompt_tuning_of_peft_step_by_step(tiny):
    from peft import PromptTuningConfig, get_peft_model

    text = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "Is it?", "tokenizer_name_or_path": str(tiny)}
    theirs = get_peft_model(
        wide(small.load(tiny)), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8, **text)
    )
    ours = attach(wide(small.load(tiny)), DeptConfig(num_tokens=8, rank=0), Start())
    theirs_P, ours_P = theirs.prompt_encoder["default"].embedding.weight, ours.get_decoder().dept["prompt"]
    ours_P.data.copy_(theirs_P)

    rows = torch.tensor([[9, 8, 7, 6, 5, 4], [1, 2, 3, 1, 2, 3]])
    optimizers = [torch.optim.AdamW([p], lr=0.05, weight_decay=0.0) for p in (ours_P, theirs_P)]
    course = []
    for _ in range(6):
        losses = []
        for model, optimizer, skipped in zip((ours, theirs), optimizers, (0, 8), strict=True):
            logits = model(input_ids=rows, attention_mask=torch.ones_like(rows)).logits[:, skipped:]
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        course.append(losses)
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    torch.testing.assert_close(ours_P, theirs_P, rtol=0, atol=1e-4)
    assert course[-1][0] < course[0][0] - 0.1, "nothing was learnt, so equal losses would prove little"


# What is written


def loop(base, dept, ids, params, count, source=None):
    """What the plain model writes to [P; E + c A B], all of it computed anew for each token."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(by_hand(base, dept, ids, params, source)[-1].argmax()))
    return ids


@torch.no_grad()
@pytest.mark.parametrize("params", [PARAMS, DeptConfig(num_tokens=0, rank=3), DeptConfig(num_tokens=4, rank=0)])
def test_logits_of_cached_steps_are_those_of_teacher_forcing_whatever_the_padding(base, params):
    base = copy.deepcopy(base).double()  # in fp32 rounding alone comes near the card's 1e-5
    model, dept = trained(base, params)
    example, other = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8, 9, 7, 9]
    for pads in (0, 2, 5):
        width = len(example) + pads
        rows = torch.tensor([[0] * pads + example, other[:width] + other[: max(0, width - len(other))]])
        mask = torch.ones_like(rows)
        mask[0, :pads] = 0
        done = model.generate(
            input_ids=rows,
            attention_mask=mask,
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        written = done.sequences[0, pads:].tolist()
        assert written == loop(base, dept, example, params, 6)
        forced = by_hand(base, dept, written, params)[len(example) - 1 : -1]
        cached = torch.stack([step[0] for step in done.logits]).double()
        torch.testing.assert_close(cached, forced, rtol=0, atol=1e-5)
        padded = model(input_ids=rows, attention_mask=mask).logits[0, pads:]
        torch.testing.assert_close(padded, by_hand(base, dept, example, params), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pads", [0, 2])
def test_a_cache_is_gone_on_from_without_being_told_positions(base, pads):
    model, dept = trained(base)
    ids = [3, 1, 4, 1, 5, 9]
    rows = torch.tensor([[0] * pads + ids])
    mask = (torch.arange(len(ids) + pads) >= pads).long()[None] if pads else None
    first = model(input_ids=rows[:, :-2], attention_mask=mask[:, :-2] if pads else None, use_cache=True)
    rest = model(input_ids=rows[:, -2:], attention_mask=mask, cache=first.cache)
    found = torch.cat([first.logits, rest.logits], dim=1)[0, pads:]
    torch.testing.assert_close(found, by_hand(base, dept, ids, PARAMS), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_official_alignment_ends_at_the_last_row_and_leaves_written_tokens_alone(base):
    model, dept = trained(base, OFFICIAL)
    example = [3, 1, 4, 1, 5]
    rows, mask = torch.tensor([[0, 0, *example]]), torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    written = model.generate(
        input_ids=rows, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    expected = loop(base, dept, example, OFFICIAL, 6, source=len(example))
    assert written[0, 2:].tolist() == expected
    assert expected != loop(base, dept, example, OFFICIAL, 6), "the offsets do not matter here"


@torch.no_grad()
def test_pads_are_no_positions_and_in_the_authors_code_they_are(base):
    """Theirs puts the prompt before the pads and counts on through them: with two pads the logits already are others."""
    model, dept = trained(base, OFFICIAL)
    ids = [3, 1, 4, 1, 5]

    def official(pads):
        embedded = base.get_input_embeddings()(torch.tensor([[0] * pads + ids]))
        product = OFFICIAL.alpha / OFFICIAL.rank**0.5 * dept["A"] @ dept["B"]
        window = torch.cat([dept["prompt"][None], embedded + product[-len(ids) - pads :]], dim=1)
        mask = torch.ones(window.shape[:2], dtype=torch.long)
        mask[:, 4 : 4 + pads] = 0
        places = torch.arange(window.shape[1])[None]
        logits = base(inputs_embeds=window, attention_mask=mask, position_ids=places, use_cache=False).logits
        return logits[0, 4 + pads :]

    for pads in (0, 2, OFFICIAL.max_tokens - len(ids)):
        rows, mask = torch.tensor([[0] * pads + ids]), torch.tensor([[0] * pads + [1] * len(ids)])
        found = model(input_ids=rows, attention_mask=mask).logits[0, pads:]
        torch.testing.assert_close(found, by_hand(base, dept, ids, OFFICIAL), rtol=0, atol=1e-4)
        difference = (official(pads) - found).abs().max().item()
        assert (difference > 2) if pads else (difference < 1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_engine_writes_and_scores_what_is_computed_by_hand_in_turns(tiny, batch_size):
    base, tokenizer = checkpoints.load(tiny)
    wide(base)
    config = DeptConfig(num_tokens=4, rank=3, max_tokens=256)
    model, dept = trained(base, config)
    sequences = small.sequences(5)
    with torch.no_grad():
        sums = {s.id: nll(by_hand(base, dept, s.ids, config), s).sum().item() for s in sequences}
        expected = []
        for prompt in PROMPTS:
            ids = tokenizer(chat_template.render_prompt(prompt, tokenizer), add_special_tokens=False)["input_ids"]
            written = loop(base, dept, ids, config, 6)[len(ids) :]
            end = written.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in written else 6
            expected.append(tokenizer.decode(written[:end], skip_special_tokens=True))
    for _ in range(2):
        assert {loss.id: loss.nats for loss in scoring.losses(model, sequences)} == pytest.approx(sums, abs=1e-3)
        found = generation.write(model, PROMPTS, tokenizer, max_new_tokens=6, batch_size=batch_size)
        assert found == expected
    assert len(set(found)) > 1


# In the engine


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_a_family_without_attention_is_refused_and_a_hybrid_is_not(name):
    """Mamba could not write after its training, and RWKV read the prompt again before each token."""
    with pytest.raises(ValueError, match=f"Family {name} has no attention, and dept needs the keys"):
        attach(small.family(name), PARAMS, Start())
    attach(small.family("qwen3_5_text", **small.ALONE["qwen3_5_text"]), PARAMS, Start())
