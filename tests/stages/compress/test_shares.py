"""Values that are not zero are counted by the kind of their tensor."""

import torch

from tasks.stages.compress.sparsity import nonzero_shares


def test_kinds_of_tensors_are_counted_together():
    tensors = {
        "a.0.lora_A.weight": torch.tensor([0.0, 1.0]),
        "a.1.lora_A.default.weight": torch.tensor([2.0, 1.0]),
        "a.1.lora_B.weight": torch.tensor([0.0]),
        "weight": torch.tensor([1.0]),
    }
    assert nonzero_shares(tensors) == {"lora_A": 0.75, "lora_B": 0.0, "weight": 1.0}
