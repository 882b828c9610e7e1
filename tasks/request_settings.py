"""Check the generation settings of a request to `transformers serve` before its answer begins, as a stream cannot take back its status 200."""

import copy
import json
from collections.abc import Mapping
from typing import Any

STREAMED = ("greedy_search", "sample", "assisted_generation")
WHOLE = ("beam_search", "beam_sample")
"""The modes of generation that transformers has itself. It loads the others as code from the network, which is not allowed here."""
OF_MODEL = "the generation_config.json of the model"


class WrongModel(Exception):
    """Raised if generation would fail by the settings of the model itself, so that every request would fail."""


def with_floats(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request with the token biases as floats, since JSON has whole numbers as integers, and without empty ones, which generation
    refuses. Raises ValueError if one is not a number."""
    if not (bias := body.get("logit_bias")):
        return {field: value for field, value in body.items() if field != "logit_bias"}
    try:
        return body | {"logit_bias": {str(int(token)): float(value) for token, value in bias.items()}}
    except (AttributeError, TypeError, ValueError):
        raise ValueError("logit_bias is not an object from token ids to numbers") from None


def check_generation_config(text: str | None) -> None:
    """Raise ValueError if the field `generation_config` of a request is not a JSON object, has a wrong setting, or asks for several answers."""
    from transformers import GenerationConfig

    try:
        config = {} if text is None else json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ValueError("generation_config is not a JSON object")
    if unknown := sorted(config.keys() - GenerationConfig().to_dict().keys()):
        raise ValueError(f"generation_config: transformers has no setting {unknown[0]!r}")
    try:
        GenerationConfig(**config)
    except Exception as error:  # its checks compare values of any type
        raise ValueError(f"generation_config: {_first_line(error)}") from error
    if (number := config.get("num_return_sequences") or 1) != 1:
        raise ValueError(f"generation_config: num_return_sequences is {number}, and a request has one answer")


def check_mode(settings: Any, body: Mapping[str, Any]) -> None:
    """Raise ValueError if transformers itself lacks the mode of generation, or cannot stream it though the request asks for a stream."""
    place = "generation_config" if body.get("generation_config") is not None else OF_MODEL
    mode, beams = settings.get_generation_mode().value, settings.num_beams
    if beams is not None and (not isinstance(beams, int) or beams < 1):
        raise ValueError(f"{place}: num_beams is {beams!r}, which is not a positive whole number")
    if mode not in STREAMED + WHOLE:
        raise ValueError(f"{place}: {mode} is not supported")
    if body.get("stream") and mode in WHOLE:
        raise ValueError(f"{place}: num_beams is {beams}, which cannot be streamed: set it to 1, or `stream` to false")


def rehearse(model: Any, inputs: Any, settings: Any, body: Mapping[str, Any]) -> None:
    """Do everything that generation does with its settings, on scores of 0 and without a pass of the model.

    Raises ValueError, with the name of the field, if a field of the request makes it fail, and WrongModel if none can be the cause.
    """
    import torch

    def apply(_: Any, input_ids: torch.Tensor, **prepared: Any) -> torch.Tensor:
        size = len(input_ids), model.config.get_text_config().vocab_size
        scores = prepared["logits_processor"](input_ids, torch.zeros(size, device=input_ids.device))
        prepared["stopping_criteria"](input_ids, scores)
        return input_ids

    try:
        with torch.no_grad():
            model.generate(**inputs, generation_config=copy.deepcopy(settings), custom_generate=apply)
    except Exception as error:  # transformers checks settings at many places, by errors of many classes
        reason = f"generation failed with it: {_first_line(error)}"
        for field in ("generation_config", "logit_bias"):
            if body.get(field):
                raise ValueError(f"{field}: {reason}") from error
        raise WrongModel(f"{OF_MODEL}: {reason}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
