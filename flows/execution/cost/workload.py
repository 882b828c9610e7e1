"""Derive the work of a stage from its settings: tokens that are read, trained on and written, and the size of the model."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.speed import Speed
from tasks.io.system import packages
from tasks.io.weights import checkpoints

READ, TRAIN, WRITE = 2.0, 6.0, 20.0
"""Operations for each parameter and token that is read, trained on, or written; writing is slower, as it waits for memory."""
ADAPTED = 5 / 6
"""Share of the operations of a training that remain if weights are frozen: gradients of the weights are not computed, those of the
activations are."""
ADDED_VALIDATION = 1.05
"""Largest factor by which validations between checkpoints lengthen a training (`validate_every`)."""
PROMPT_TOKENS = 150
"""Tokens of a prompt that is answered, and of an example that is judged, if the data are not known yet."""
JUDGEMENTS = 6
"""Answers of the judge to each example (`diagnose.quality`)."""
KINDS = 8
"""Assumed kinds of generated tasks that are asked (`diagnose.probes`); the settings list them, but the list is not counted here."""
SHARED = 5 / 6
"""Share of the nominal `8x7B` that a model really has, as experts share attention and embeddings (Mixtral has 46.7 and 140.6 billion)."""
ROUTED = 2
"""Experts of `8x7B` that a token passes through."""
BASE = Path("models/base")
WEIGHT_BYTES = 4.0


@dataclass(frozen=True)
class Shape:
    """The size of a model."""

    parameters: float
    hidden: float
    layers: float
    idle: float = 0
    """Parameters of experts that a token does not pass through."""

    @property
    def active(self) -> float:
        """The parameters that a token passes through."""
        return self.parameters - self.idle


@dataclass(frozen=True)
class Work:
    """The tokens that a stage reads, trains on and writes, as far as its settings give them."""

    read: float = 0
    trained: float = 0
    written: float = 0
    validated: float = 0
    """Tokens that a training reads to measure its validation losses."""
    steps: float = 0
    """Sequential decoding steps: each writes the next token of every answer of a batch."""
    passes: float = 0
    """Forward passes over each trained token if there is no backward pass; 0 if there is one."""

    @property
    def operations(self) -> float:
        """The operations for each parameter of the model, without validation. Time is proportional to them."""
        training = READ * self.passes if self.passes else TRAIN
        return READ * self.read + training * self.trained + WRITE * self.written

    def seconds(self, shape: Shape, speed: Speed, *, adapts: bool) -> float:
        """Return the seconds of CPU time of this work on an idle machine."""
        pace = speed.pace(shape.hidden)
        passed = self.passes * self.trained
        reading = READ * (self.read + self.validated + self.written + passed) / pace.read_ops_per_s
        backward = 0.0 if self.passes else self.trained
        training = TRAIN * (ADAPTED if adapts else 1.0) * backward / pace.train_ops_per_s
        step_s = shape.layers * speed.layer_s + shape.parameters * WEIGHT_BYTES / speed.bytes_per_s
        return shape.active * (reading + training) + self.steps * step_s


class Settings:
    """Settings by full name, as MLflow records them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a setting as a number; the default if it is missing or is no number."""
        try:
            return float(self._values[name])
        except (KeyError, ValueError):
            return default

    def count(self, name: str) -> float:
        """Return a setting as a number, or infinity if it is missing."""
        return self.number(name, math.inf)

    def text(self, name: str) -> str:
        """Return a setting as it is recorded; empty if it is missing."""
        return self._values.get(name, "")

    def adapts(self, stage: str) -> bool:
        """Return whether a stage trains an adapter."""
        return self.text(f"{stage}.adapter") not in ("", "none")

    def kind(self, name: str) -> str:
        """Return the key `from` of a section, which chooses its kind."""
        return self.text(f"{name}.from") or self.text(f"{name}.from_")

    def is_empty(self, name: str) -> bool:
        """Return True if a setting is known and empty."""
        return self._values.get(name) in ("()", "[]", "{}", "None")

    @property
    def domains(self) -> int:
        """Return the number of domains that have texts."""
        named = sum(name.startswith("ingest.corpora.domains.") for name in self._values)
        return named + (not self.is_empty("ingest.corpora.domain"))


def of(stage: str, settings: Mapping[str, str]) -> Work:
    """Return the work of a stage; zero for a stage whose work follows from the data."""
    return _WORK[stage](Settings(settings)) if stage in _WORK else Work()


def is_known(stage: str) -> bool:
    """Return True if the settings of a stage give its work."""
    return stage in _WORK


def is_of_base(stage: str, settings: Mapping[str, str]) -> bool:
    """Return True if a stage runs the base or a model made from it, so that its time depends on the base."""
    return is_known(stage) or (stage == "refine" and Settings(settings).kind("refine.generator") in ("local", "tasks"))


def _training(stage: str, sets: int) -> Callable[[Settings], Work]:
    def work(settings: Settings) -> Work:
        tokens = settings.number(f"{stage}.max_tokens")
        step_tokens = settings.number(f"{stage}.pack_tokens", 1024) * settings.number(f"{stage}.accumulation", 1)
        save_every = settings.number(f"{stage}.save_every")
        measured = 2 + (tokens / step_tokens / save_every if save_every else 0)
        validated = sets * settings.number(f"{stage}.valid_tokens") * measured + (ADDED_VALIDATION - 1) * 3 * tokens
        passes = 0.0 if computes_gradients(stage, settings) else _passes(stage, settings)
        return Work(trained=tokens, validated=validated if tokens else 0, passes=passes)

    return work


def computes_gradients(stage: str, settings: Settings) -> bool:
    """Return False if the optimizer uses forward passes alone. True for an optimizer of an earlier run that no longer exists."""
    optimizer = settings.text(f"{stage}.optimizer")
    return optimizer not in methods.names("optimizers") or not methods.spec("optimizers", optimizer).gradient_free


def _passes(stage: str, settings: Settings) -> float:
    """Return the forward passes of a step of a gradient-free optimizer: two for each direction."""
    return 2 * settings.number(f"methods.{settings.text(f'{stage}.optimizer')}.directions", 1)


def _diagnosed(settings: Settings) -> Work:
    if settings.text("diagnose.curator") == "failures":
        asked = KINDS * settings.number("diagnose.probes.each")
        written = asked * settings.number("diagnose.probes.max_new_tokens")
        steps = written / settings.number("diagnose.probes.batch_size", 32)
        return Work(read=PROMPT_TOKENS * asked, written=written, steps=steps)
    one_pass = settings.count("tune.max_tokens") / settings.number("tune.epochs", 1)
    tokens = min(settings.number("diagnose.max_tokens"), one_pass)
    judgements = JUDGEMENTS * tokens / PROMPT_TOKENS
    written = (
        judgements * settings.number("diagnose.judging.max_new_tokens")
        if settings.text("diagnose.quality") == "generate"
        else 0
    )
    return Work(
        read=(2 + JUDGEMENTS) * tokens,
        written=written,
        steps=written / settings.number("diagnose.judging.batch_size", 8),
    )


def _evaluated(settings: Settings) -> Work:
    has_examples, has_texts = not settings.is_empty("ingest.sources"), settings.domains > 0
    domain, texts = settings.number("evaluate.domain_tokens"), settings.number("evaluate.text_tokens")
    losses = has_examples * domain + (1 + has_texts) * texts
    tests = settings.number("evaluate.pass_items") + settings.number("evaluate.human_eval")
    of_tests = tests * (1 + settings.number("evaluate.samples"))
    if settings.text("evaluate.server.url"):
        of_tests = 0  # a server of unknown speed writes these answers, and this machine those of the gate set
    answers = has_examples * (of_tests + settings.number("evaluate.gate_items"))
    written = answers * settings.number("evaluate.max_new_tokens")
    # The gate set is measured in the same way as the test set.
    read = 2 * losses + PROMPT_TOKENS * answers
    return Work(read=read, written=written, steps=written / settings.number("evaluate.batch_size", 32))


_WORK: dict[str, Callable[[Settings], Work]] = {
    "pretrain": _training("pretrain", sets=2),  # losses on the domain and on general text
    "tune": _training("tune", sets=1),
    "diagnose": _diagnosed,
    "compress": lambda settings: Work(read=2 * settings.number("compress.valid_tokens")),
    "evaluate": _evaluated,
}
"""Stage → its work by its settings. The work of the other stages follows from the data."""


_FORMER = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer"}
"""Sizes in `config.json` → their names in GPT-2's."""


def base_shape(model: Mapping[str, Any]) -> Shape | None:
    """Return the size of the base from its files, from its shape in the settings, or from its name (`…-7B-…`, `…-8x7b-…`)."""
    folder = base_folder(model)
    if shape := folder and _of_files(folder):
        return shape
    if {"hidden", "layers", "mlp"} <= model.keys():
        parameters = float(model["layers"] * model["hidden"] * (4 * model["hidden"] + 3 * model["mlp"]))
        return Shape(parameters, model["hidden"], model["layers"])
    name = str(model.get("id") or model.get("path") or _packaged_file(model.get("name")))
    shapes = (shape for part in reversed(Path(name).parts) if (shape := _named(part)))
    return next(shapes, None)


def base_folder(model: Mapping[str, Any]) -> Path | None:
    """Return the folder of the base: as it was fetched, or its source if that is a folder; None if it is not on this machine yet."""
    folders = [*([BASE] if is_fetched(model) else []), *([Path(str(model["path"]))] if model.get("path") else [])]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def is_fetched(model: Mapping[str, Any]) -> bool:
    """Return False if the base on disk is known to be another model, so that runs with it tell nothing about this one."""
    source = checkpoints.read_card(BASE).get("source")
    named = {name: value for name, value in model.items() if name not in ("path", "digest")}  # the card has neither
    return source is None or (named.items() <= source.items() and _may_be_copied(model.get("path")))


def _may_be_copied(path: Any) -> bool:
    """Return False if the weights of the base differ from this folder's in the sizes of their files; True if there is no such folder."""
    if path is None or not Path(str(path)).is_dir():
        return True
    originals = ((file, Path(str(path)) / file.name) for file in BASE.glob("*.safetensors"))
    return all(other.is_file() and other.stat().st_size == file.stat().st_size for file, other in originals)


def _of_files(folder: Path) -> Shape | None:
    """Return the size of the model in a folder; None if there is none."""
    files = list(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inner = config.get("text_config") or config
    hidden, layers = (inner.get(name) or inner.get(gpt2) for name, gpt2 in _FORMER.items())
    layers = layers or len(inner.get("layers_block_type") or ()) or 12
    tensors = [
        tensor for file in files for tensor in _tensors(file, _PACKED if "quantization_config" in config else {})
    ]
    if not tensors:  # the files are still being copied
        width = 2 if "16" in str(config.get("dtype") or config.get("torch_dtype")) else 4
        return Shape(sum(file.stat().st_size for file in files) / width, hidden or 768, layers)
    idle = _idle_share(inner) * sum(tensor.numbers for tensor in tensors if tensor.is_of_experts(inner))
    return Shape(sum(tensor.numbers for tensor in tensors), hidden or 768, layers, idle)


_UNITS = {"m": 1e6, "b": 1e9}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "top_k_experts", "moe_k", "moe_topk")
_PACKED = {"U8": 2, "I32": 8}
"""Type in which 4-bit weights are stored → weights packed into one number of this type."""


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a file of weights."""

    name: str
    shape: Sequence[int]
    numbers: int

    def is_of_experts(self, config: Mapping[str, Any]) -> bool:
        """Return True if it holds weights of routed experts: of one expert, or stacked for all experts of a layer."""
        return ".experts." in self.name or (len(self.shape) == 3 and self.shape[0] == _first(config, _EXPERTS))


def _tensors(file: Path, packed: Mapping[str, int]) -> list[_Tensor]:
    """Return the weights in a file, from its header; none if it cannot be read. Scales of quantised weights are left out."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            parts = {name: opened.get_slice(name) for name in opened.keys() if not name.endswith("scales")}  # noqa: SIM118
            shapes = {name: (part.get_shape(), packed.get(part.get_dtype(), 1)) for name, part in parts.items()}
    except SafetensorError:
        return []
    return [_Tensor(name, shape, math.prod(shape) * times) for name, (shape, times) in shapes.items()]


def _idle_share(config: Mapping[str, Any]) -> float:
    """Return the share of experts that a token does not pass through; 0 for a model without experts."""
    experts = _first(config, _EXPERTS)
    return max(0.0, 1 - (_first(config, _CHOSEN) or experts) / experts) if experts else 0.0


def _first(config: Mapping[str, Any], names: Sequence[str]) -> float:
    """Return the first of these settings that is a number, or the mean if it has one for each layer (Hunyuan); 0 if there is none."""
    given = (number if isinstance(number, list) else [number] for name in names if (number := config.get(name)))
    return next((sum(numbers) / len(numbers) for numbers in given if all(isinstance(one, int) for one in numbers)), 0)


def _named(name: str) -> Shape | None:
    """Return the size for the largest number of parameters in a name, and how many of them are active for a token (`30B-A3B`, `8x7B`). Each
    expert is assumed to be as wide as a model of its own size."""
    numbers = re.findall(r"(?:(\d+)x)?(?<!-\d_)(\d+(?:\.\d+)?)([mb])\b", name.lower())
    shapes = [
        replace(one, parameters=one.parameters * share, idle=one.parameters * (share - at_work))
        for experts, number, unit in numbers
        if (one := _usual_shape(_UNITS[unit] * float(number))).parameters
        for share, at_work in [(SHARED * int(experts), SHARED * min(ROUTED, int(experts))) if experts else (1, 1)]
    ]
    largest = max(shapes, key=lambda shape: shape.parameters, default=None)
    if largest and (active := re.search(r"\ba(\d+(?:\.\d+)?)([mb])\b", name.lower())):
        return replace(largest, idle=max(0.0, largest.parameters - _UNITS[active[2]] * float(active[1])))
    return largest


def _usual_shape(parameters: float) -> Shape:
    """Return the usual shape of models with so many parameters: some 34 layers of 12 × width² (SmolLM2, Qwen2.5, within a quarter)."""
    return Shape(parameters, math.sqrt(parameters / (12 * 34)), 34)


def _packaged_file(package: Any) -> str:
    """Return the name of the model file in an installed package; empty if there is none."""
    try:
        names = [file.name for file in packages.files(str(package), "fetch.model.name")]
    except ValueError:
        return ""
    return next((name for name in names if name.endswith((".gguf", ".safetensors"))), "")
