"""Draw the splits (train, valid, test, gate): groups stay whole, and each stratum gives its share as far as its groups allow."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.records import Document, Example, Split
from tasks.stages.ingest.config import IngestConfig

FILLED: tuple[Split, ...] = ("test", "valid")


@dataclass(frozen=True)
class Group:
    """Records that must share a split."""

    name: str
    stratum: str
    """Groups of a stratum (a package) are spread over the splits."""
    size: int
    """Examples, or characters of documents."""


def split_examples(examples: Sequence[Example], config: IngestConfig) -> dict[str, Split]:
    """Draw the split of each group of examples."""
    groups: dict[str, Group] = {}
    for example in examples:
        group = groups.get(example.group, Group(example.group, example.domain, 0))
        groups[example.group] = replace(group, size=group.size + 1)
    splits = assign_splits(groups.values(), config.splits.held_out, config.seed)
    return _with_one_group_each(splits, list(groups.values()), config)


def _with_one_group_each(splits: dict[str, Split], groups: Sequence[Group], config: IngestConfig) -> dict[str, Split]:
    """Return the splits with a group in each that has a share, as far as there are groups: the smallest of those that train.

    The gate takes the group whose hash comes nearest to its own. If the data grow and the gate has groups by their names, that one
    trains; none goes the other way.
    """
    splits = dict(splits)
    for split, share in config.splits.held_out.items():
        training = [group for group in groups if splits[group.name] == "train"]
        if not share or split in splits.values() or len(training) < 2:
            continue
        if split == "gate":
            chosen = min(training, key=lambda group: seeded_hash(config.seed, f"gate: {group.name}"))
        else:
            chosen = min(training, key=lambda group: (group.size, seeded_hash(config.seed, group.name)))
        splits[chosen.name] = split
    return splits


def split_documents(
    documents: Sequence[Document], strata: Sequence[str], config: IngestConfig, fixed: Mapping[str, Split]
) -> list[Split]:
    """Return the split of each document. Groups in `fixed`, those of examples, keep theirs; the others fill up the shares."""
    groups: dict[str, Group] = {}
    for document, stratum in zip(documents, strata, strict=True):
        group = groups.get(document.group, Group(document.group, stratum, 0))
        groups[document.group] = replace(group, size=group.size + len(document.text))
    splits = assign_splits(groups.values(), config.splits.held_out, config.seed, fixed)
    return [splits[document.group] for document in documents]


def assign_splits(
    groups: Iterable[Group], shares: Mapping[Split, float], seed: int, fixed: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """Assign a split to each group, in an order drawn from the seed. Groups in `fixed` keep theirs and count.

    1. Each stratum fills its share of test, then of valid, with the groups that fit.
    2. Groups of any stratum fill what is still missing: one large module may be a stratum of its own.
    3. Of the rest, a hash of the group's name alone decides between gate and train. So no group ever moves between gate and
       training as the data grow; the gate's share is met on average only.
    """
    drawn = sorted(groups, key=lambda group: seeded_hash(seed, group.name))
    splits: dict[str, Split] = {group.name: fixed[group.name] for group in drawn if fixed and group.name in fixed}
    strata: defaultdict[str, list[Group]] = defaultdict(list)
    for group in drawn:
        strata[group.stratum].append(group)
    for members in [*(strata[name] for name in sorted(strata)), drawn]:
        for split in FILLED:
            _fill(splits, members, split, shares[split])
    gate_share = shares.get("gate", 0) / (1 - sum(shares[split] for split in FILLED))
    rest: dict[str, Split] = {
        group.name: "gate" if _falls_to_gate(group.name, gate_share, seed) else "train"
        for group in drawn
        if group.name not in splits
    }
    splits |= rest
    return {group.name: splits[group.name] for group in drawn}


def seeded_hash(seed: int, name: str) -> str:
    """Return hex digits that depend on `seed` and `name` alone. Sorting by them draws an order."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _falls_to_gate(name: str, share: float, seed: int) -> bool:
    """Return True for about `share` of the names.

    The hash is not the one that ordered the groups: groups with the lowest of those are in test and valid already.
    """
    return int(seeded_hash(seed, f"gate: {name}")[:13], 16) < share * 16**13


def _fill(splits: dict[str, Split], members: list[Group], split: Split, share: float) -> None:
    """Give `split` the groups that fit into its share of `members`, in their order."""
    target = round(share * sum(group.size for group in members))
    room = target - sum(group.size for group in members if splits.get(group.name) == split)
    for group in members:
        if group.name not in splits and group.size <= room:
            splits[group.name] = split
            room -= group.size
