"""Functions of weights in 8 or 4 bits. Equations and the legend of symbols are in the card, `__init__.py`."""

import logging
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from tasks.core.weights import complete
from tasks.methods.compressors import WeightCompressor
from tasks.methods.compressors.bitsandbytes.config import BitsandbytesConfig


def write(model: Any, tokenizer: Any, folder: Path, config: BitsandbytesConfig) -> None:
    """Write the quantised model and its tokenizer."""
    _check_installed()
    how = transformers.BitsAndBytesConfig(
        load_in_8bit=config.bits == 8,
        load_in_4bit=config.bits == 4,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
    )
    with tempfile.TemporaryDirectory() as plain:  # the library quantises while it loads
        model.save_pretrained(plain)
        quantised = _open(Path(plain), model.device, dtype=torch.bfloat16, quantization_config=how)
    # Save before the first use: then a CPU with AVX512-BF16 repacks 4-bit weights, and would save noise (0.50.2).
    quantised.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read(folder: Path, dtype: str, device: str) -> tuple[Any, Any]:
    """Return the quantised model, which computes in `dtype`, and its tokenizer."""
    _check_installed()
    model = _open(folder, device)
    kind = getattr(torch, dtype)
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = kind
            # Otherwise a CPU with AVX512-BF16 repacks weights at their first use, and computes in bf16 whatever `dtype` is.
            module.support_avx512bf16_for_cpu = False
    for parameter in model.parameters():  # `from_pretrained` keeps a quantised model in the type it was stored in
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(kind)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )


def _check_installed() -> None:
    if find_spec("bitsandbytes") is None:
        raise ValueError("compressor 'bitsandbytes' needs the package of that name: pip install -e '.[quantize]'.")


def _open(folder: Path, device: Any, **how: Any) -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of every product of 8 bits
    return complete.load(
        transformers.AutoModelForCausalLM, folder, device_map={"": device}, use_safetensors=True, **how
    )


METHOD = WeightCompressor(write=write, read=read)
