"""Every sequence has its own loss, whatever shares its row."""

from itertools import pairwise

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.sequences import Encoded
from tasks.engine.forward import HEAD_ROWS, token_losses
from tasks.engine.inference import scoring
from tasks.engine.training.allocations import allocations
from tests import tiny as small


def test_a_sequences_nats_are_those_of_a_plain_forward(tiny, monkeypatch):
    monkeypatch.setattr(scoring, "PACK_TOKENS", 40)  # several rows
    sequences = small.sequences(12, seed=2)
    found = {loss.id: loss for loss in scoring.losses(small.load(tiny), sequences)}
    assert set(found) == {sequence.id for sequence in sequences}
    plain = small.load(tiny).eval()
    for sequence in sequences:
        labels = torch.tensor([[t if w > 0 else -100 for t, w in zip(sequence.ids, sequence.weights, strict=True)]])
        with torch.no_grad():
            mean = plain(input_ids=torch.tensor([sequence.ids]), labels=labels).loss
        assert found[sequence.id].tokens == sequence.num_trained
        assert found[sequence.id].nats == pytest.approx(mean.item() * sequence.num_trained, rel=1e-4)


def test_a_sequence_beyond_the_context_has_no_loss(tiny, tmp_path):
    model = small.load(small.short(tiny, tmp_path / "short", 30))
    with pytest.raises(ValueError, match=r"context of the model has 30 tokens, .* Shorten it or leave it out"):
        list(scoring.losses(model, small.sequences(12, longest=48)))


def test_no_device_is_asked_for_doubles(tiny):
    class OfADeviceWithoutDoubles(torch.Tensor):
        def double(self):
            raise TypeError("this device has none")

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    def nll(model, batch):
        return token_losses(model, batch).as_subclass(OfADeviceWithoutDoubles)

    sequences = small.sequences(3)
    expected = list(scoring.losses(small.load(tiny), sequences))
    assert list(scoring.losses(small.load(tiny), sequences, nll=nll)) == expected


def largest(work):
    """Bytes of the largest piece of memory that `work` asks for."""
    with allocations() as running:
        work()
    return max(after - before for before, after in pairwise(running))


def test_logits_never_stand_in_memory_whole():
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20_000, num_hidden_layers=1, **shape)).eval()
    sequences = small.sequences(60, seed=1, longest=48)
    trained = sum(sequence.num_trained for sequence in sequences)
    assert trained > 2 * HEAD_ROWS
    logits = 4 * model.config.vocab_size  # bytes a token
    assert largest(lambda: list(scoring.losses(model, sequences))) <= HEAD_ROWS * logits
    model.set_attn_implementation("eager")
    ids = torch.ones(1, trained, dtype=torch.long)
    assert largest(lambda: model(input_ids=ids)) >= trained * logits


def test_a_sequence_that_is_all_prompt_has_no_loss_and_no_token(tiny):
    rows = [Encoded("prompt", [1, 2, 3], [0.0, 0.0, 0.0]), Encoded("whole", [1, 2], [0.0, 1.0])]
    prompt, whole = sorted(scoring.losses(small.load(tiny), rows), key=lambda loss: loss.id)
    assert (prompt.nats, prompt.tokens) == (0.0, 0)
    assert whole.tokens == 1


def test_a_row_that_trains_nothing_scores_nothing(tiny):
    assert list(scoring.losses(small.load(tiny), [Encoded("prompt", [1, 2], [0.0, 0.0])])) == [
        scoring.Loss("prompt", 0.0, 0)
    ]


def test_the_mean_counts_tokens_and_not_sequences():
    assert scoring.mean([scoring.Loss("a", 6.0, 1), scoring.Loss("b", 4.0, 4)]) == pytest.approx(2.0)


def test_a_mean_of_nothing_says_so():
    with pytest.raises(ValueError, match="no token to score"):
        scoring.mean([scoring.Loss("a", 0.0, 0)])
