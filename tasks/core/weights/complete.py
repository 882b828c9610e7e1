"""Load models whose folder has all weights. transformers gives missing weights random values, different ones at each load, and continues."""

import json
from pathlib import Path
from typing import Any

from tasks.core.weights.surgery import BYPASSED


def load(kind: Any, folder: Path, unused: str = "", **how: Any) -> Any:
    """Return the model in a folder by `from_pretrained` of this class of transformers, without remote code and without downloads.

    Raises ValueError if weights are missing in the files, except those whose names begin with `unused` if it is given, and for a family
    that this class does not support. Quantisation leaves out the layers of `BYPASSED`.
    """
    quantization: Any = how.get("quantization_config")
    if hasattr(quantization, "llm_int8_skip_modules") and (spared := BYPASSED.get(_family(folder))):
        # transformers leaves the head out only if no names are given.
        quantization.llm_int8_skip_modules = [*spared, "lm_head"]
    try:
        model, info = kind.from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False, local_files_only=True, **how
        )
    except ValueError as error:
        if not str(error).startswith("Unrecognized configuration class"):
            raise
        raise ValueError(  # transformers' message lists all existing families
            f"{folder} holds a model of family {_family(folder)}, which {kind.__name__} of transformers does not open. Take a base of another family, "
            "or save its language model alone, if it reads images too."
        ) from None
    missing = sorted(name for name in info["missing_keys"] if not (unused and name.startswith(unused)))
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ValueError(
            f"{folder} lacks {len(missing)} of the model's weights: {shown}. Its files may have them by other names, as torch.compile "
            f"and wrappers give: save the {type(model).__name__} alone, by `save_pretrained`."
        )
    return model


def _family(folder: Path) -> str:
    family: str = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    return family
