"""The token with which a model ends its turn. Training uses that of the chat template, and generation must stop at it.

Base models such as Qwen2.5 have a template with `<|im_end|>`, and a generation config with only the end-of-text token.
"""

import json
from pathlib import Path
from typing import Any

from tasks.core.weights.control_tokens import end_of_turn

FILE = "generation_config.json"


def add(settings: Any, tokenizer: Any) -> bool:
    """Add the token with which the chat template ends an answer to the end tokens of a generation config. Return True if it was missing."""
    text, ends = end_of_turn(tokenizer), settings.eos_token_id
    end = None if text is None else tokenizer.convert_tokens_to_ids(text)
    known = ends if isinstance(ends, list) else [token for token in (ends,) if token is not None]
    if end is None or end in known:
        return False
    settings.eos_token_id = [*known, end]
    # transformers refuses to save changed settings if loading warns about them, such as a temperature with greedy decoding. These settings are published ones.
    settings._original_object_hash = hash(settings)
    return True


def write(folder: Path, tokenizer: Any) -> None:
    """Add the token in the files of a model, for other programs that serve it. Write nothing if it is already there."""
    from transformers import AutoConfig, GenerationConfig

    if (folder / FILE).is_file():
        settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        settings = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    if add(settings, tokenizer):
        settings.save_pretrained(folder)


def of_settings(folder: Path) -> int:
    """Return the end token in a model's settings, the first if there are several. Raises ValueError if they name none."""
    files = [file for name in (FILE, "config.json") if (file := folder / name).is_file()]
    named = [json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") for file in files]
    ends = [end[0] if isinstance(end, list) else end for end in named if end not in (None, [])]
    if not ends:
        raise ValueError(
            f"{folder}: the tokenizer has neither a token to pad with nor one that ends a text. Set `eos_token` in its tokenizer_config.json."
        )
    return int(ends[0])
