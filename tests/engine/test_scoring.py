"""Every sequence has its own loss, whatever shares its row."""

import pytest
import torch

from tasks.engine import scoring
from tasks.engine.encode import Encoded
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
