"""The programs that open a method's results, by its SPEC. A page of the documentation and its test are generated from this."""

from typing import Any, NamedTuple

from tasks import methods

FAMILIES = ("adapters", "selectors", "compressors")
"""The families whose methods write results to disk."""
READERS = {
    "peft": "peft",
    "transformers": "transformers",
    "gguf": "GGUF",
    "gguf_lora": "GGUF LoRA",
}
"""The readers, with their titles."""


class Cell(NamedTuple):
    """One reader, and if it opens the result of one method."""

    opens: bool
    note: str = ""
    """The form in which the reader opens it, or the reason why it cannot."""


def rows() -> list[tuple[str, str]]:
    """Return the methods that write results to disk: family and name."""
    return [(family, name) for family in FAMILIES for name in methods.names(family) if name != "none"]


def cells(family: str, name: str) -> dict[str, Cell]:
    """Return, for each reader, whether and how it opens a method's result."""
    spec = methods.spec(family, name)
    match family:
        case "adapters":
            return _of_adapter(spec)
        case "selectors" if spec.needs_linear:
            return {reader: cell._replace(note="as `lora`") for reader, cell in cells("adapters", "lora").items()}
        case "selectors":
            change = Cell(False, "whole weights change, and `ratchet delta` writes their change")
            return {"peft": change, "transformers": Cell(True), "gguf": Cell(True), "gguf_lora": change}
    return _of_compressor(spec)


def _of_adapter(spec: Any) -> dict[str, Cell]:
    """Return the cells of an adapter. If peft did not make it, a LoRA is saved beside it, unless `no_lora` says why there is none."""
    kind = spec.wraps.removeprefix("peft.").removesuffix("Config")
    plain = Cell(True) if spec.merges else Cell(False, spec.no_lora)
    if spec.no_lora:
        lora = peft = Cell(False, spec.no_lora)
    elif not kind:
        lora = peft = Cell(True, "as a LoRA")
    elif kind == "Lora" and spec.linear:  # a DoRA's update passes through a norm
        lora = peft = Cell(True)
    else:
        peft, lora = Cell(True), Cell(False, "llama.cpp reads LoRA alone")
    return {"peft": peft, "transformers": plain, "gguf": plain, "gguf_lora": lora}


def _of_compressor(spec: Any) -> dict[str, Cell]:
    """Return the cells of a compressor, which stores a change in our own encoding, or whole weights."""
    if not spec.readers:
        return dict.fromkeys(
            READERS, Cell(False, "a code of ours, from which `compressed.unpack` gives the change back")
        )
    closed = {"gguf": Cell(False, "another format")}
    whole = Cell(False, "whole weights, and no change of them")
    return {
        reader: Cell(True, spec.readers[reader]) if reader in spec.readers else closed.get(reader, whole)
        for reader in READERS
    }
