"""The origin of each example according to its lineage: written by people, by another model, by the model itself, or by several of them.

A survey of instruction tuning names the first three, https://arxiv.org/abs/2508.17184. How they follow from lineage is our design.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from tasks.core.records import Lineage

Origin = Literal["expert", "distilled", "self", "mixed"]
ORIGINS: Mapping[Origin, str] = {
    "expert": "as a source gave it, by a generator of tasks, or by a person's edit; whether a model wrote it before it came here is not known",
    "distilled": "written by another model",
    "self": "written by the model that is tuned, or by its base",
    "mixed": "by several of these, or by a model with a person's decision",
}
"""Origin → its meaning, in the order of reports."""
UNTOLD = "not told by lineage"
OWN = {"tuned", "pretrained"}
"""Names that lineage uses for the model that is tuned."""


def trace(first: Iterable[str], turns: Iterable[Sequence[Lineage]]) -> dict[str, Origin]:
    """Return the origin of each example by its id, for the examples of the first round and for those that the consecutive turns made.

    Examples that were made from an unknown example are left out.
    """
    known: dict[str, Origin] = dict.fromkeys(first, "expert")
    for turn in turns:
        made = [line for line in turn if line.accepted and line.operator not in ("reject", "drop")]
        known |= {line.id: _of(line, known) for line in made if known.keys() >= {*line.parents}}
    return known


def count(ids: Iterable[str], known: Mapping[str, Origin]) -> dict[str, int]:
    """Return the number of examples of each origin, in the order of reports; last, the number of those without an origin in lineage."""
    counts = Counter(known.get(one, UNTOLD) for one in ids)
    return {origin: counts[origin] for origin in (*ORIGINS, UNTOLD) if counts[origin]}


def _of(line: Lineage, known: Mapping[str, Origin]) -> Origin:
    """Return the origin of an example that a line of lineage made: that of its author, combined with those of its parents."""
    author = _author(line)
    of_parents: set[Origin] = {known[parent] for parent in line.parents}
    joined: set[Origin]
    if author is None:  # a rule keeps the text of the parents
        joined = of_parents or {"expert"}
    else:
        joined = {author} | (of_parents - {"expert"} if author in ("distilled", "self") else of_parents)
    return joined.pop() if len(joined) == 1 else "mixed"


def _author(line: Lineage) -> Origin | None:
    """Return the origin of texts by the author of a line; None for a rule, which writes no text."""
    writer, _, person = line.generator.partition(", ")
    if line.operator == "edit":
        return "expert"
    if line.operator == "add":
        return "self" if writer in OWN else "expert"
    if person:
        return "mixed"
    if not line.prompt_hash:
        return None
    return "self" if writer in OWN else "distilled"
