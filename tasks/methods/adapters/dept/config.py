"""Settings of DePT, and the facts about it that need no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class DeptConfig(Config):
    """The `methods.dept` section."""

    num_tokens: int = Field(60, ge=0)
    """Length M of the prompt. 60 with `rank: 30` is the paper's pair with as many parameters as a prompt of 100 tokens, at H = 768 and
    `max_tokens: 256`."""
    rank: int = Field(30, ge=0)
    """Inner width R of the offsets; 0 is plain prompt tuning."""
    max_tokens: int = Field(1024, ge=1)
    """Rows L of A: the longest sequence in tokens, generated ones included. A longer one is refused. No effect if `rank` is 0."""
    alpha: float = Field(8.0, gt=0)
    """The offsets are scaled by alpha / sqrt(rank)."""
    align: Literal["left", "official"] = "left"
    """The row of A for a token. `left`: the token's position in its sequence. `official`, to compare with the authors' code: rows are
    aligned so that the sequence ends at row L, and generated tokens have none, so that training and generation differ. Neither counts
    padding as positions, unlike the authors' code."""
    prompt_rate: float = Field(600.0, gt=0)
    """Learning rate of P as a multiple of the optimizer's, which A and B have: the paper's 3e-1 over 5e-4, found on T5. For
    embeddings of small spread a lower value is better: on SmolLM2-135M (a spread of 0.14) 60 learned sooner than 600."""

    @model_validator(mode="after")
    def _something_trains(self) -> Self:
        if not self.num_tokens and not self.rank:
            raise ValueError("num_tokens and rank are both 0, so that nothing would train. Raise one of them.")
        return self


SPEC = AdapterSpec(
    config=DeptConfig,
    difference="A prompt stands before every sequence; with `num_tokens: 0` there is none.",
    merges=False,
    no_lora="A prompt adds positions and the offsets go by position, and a LoRA only changes weights.",
)
