"""Draw the splits (train, valid, test, gate): groups stay whole. By size each stratum gives its share as far as its groups allow; by
name a group's split never changes."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.records import Document, Example, Split, content_id, identify
from tasks.stages.ingest.config import IngestConfig

FILLED: tuple[Split, ...] = ("test", "valid")
GATE: Split = "gate"


@dataclass(frozen=True)
class Group:
    """Records that must share a split."""

    name: str
    stratum: str
    """Groups of a stratum (a package) are spread over the splits."""
    size: int
    """Examples, or characters of documents."""
    alias: str = ""
    """The name by which its split is drawn, where that is another."""

    @property
    def drawn_name(self) -> str:
        """The name whose hash draws its split."""
        return self.alias or self.name


def split_examples(examples: Sequence[Example], config: IngestConfig) -> dict[str, Split]:
    """Draw the split of each group of examples."""
    groups: dict[str, Group] = {}
    for example in examples:
        group = groups.get(example.group, Group(example.group, example.domain, 0, _alias(example, config)))
        groups[example.group] = replace(group, size=group.size + 1)
    splits = _assign(groups.values(), config, {})
    return splits | _one_group_each(splits, list(groups.values()), config)


def split_documents(
    documents: Sequence[Document], strata: Sequence[str], config: IngestConfig, fixed: Mapping[str, Split]
) -> list[Split]:
    """Return the split of each document. Groups in `fixed`, those of examples, keep theirs; the others fill up the shares."""
    groups: dict[str, Group] = {}
    for document, stratum in zip(documents, strata, strict=True):
        group = groups.get(document.group, Group(document.group, stratum, 0, _alias(document, config)))
        groups[document.group] = replace(group, size=group.size + len(document.text))
    splits = _assign(groups.values(), config, fixed)
    if config.splits.by == "name":  # by size each split has its share of a corpus, however few the groups
        for domain in sorted({document.domain for document in documents}):
            names = dict.fromkeys(document.group for document in documents if document.domain == domain)
            splits |= _one_group_each(splits, [groups[name] for name in names], config, fixed)
    return [splits[document.group] for document in documents]


def _assign(groups: Iterable[Group], config: IngestConfig, fixed: Mapping[str, Split]) -> dict[str, Split]:
    assign = assign_by_name if config.splits.by == "name" else assign_splits
    return assign(groups, config.splits.held_out, config.seed, fixed)


def _alias(record: Example | Document, config: IngestConfig) -> str:
    """Return the name by which the split of a record's group is drawn, where names decide: for a row that is a group of its own its prompt
    or text. Rows with one prompt then share a split, and a row keeps it wherever it stands in its file."""
    if config.splits.by != "name":
        return ""
    if isinstance(record, Example):
        return f"prompt {identify(record.prompt)}" if record.group == record.source else ""
    return f"text {content_id(record.text)}" if record.group.endswith(f": {record.source}") else ""


def _one_group_each(
    splits: Mapping[str, Split], groups: Sequence[Group], config: IngestConfig, fixed: Collection[str] = ()
) -> dict[str, Split]:
    """Return a group for each split that has a share and none of these groups, from a split that has several, as far as there are any.

    By size it is the smallest that trains; only the gate takes the group whose hash comes nearest to its own. By name every split takes that
    one, of those that train if there are two; train itself may lack one too. When the data have grown, such a group is where its name has it.
    """
    by_name = config.splits.by == "name"
    given: dict[str, Split] = {}
    shares = config.splits.held_out
    for split, share in (shares | {"train": 1.0} if by_name else shares).items():
        current: dict[str, Split] = {group.name: given.get(group.name, splits[group.name]) for group in groups}
        numbers = Counter(current.values())
        spare = [group for group in groups if numbers[current[group.name]] > 1 and group.name not in fixed]
        training = [group for group in spare if current[group.name] == "train"]
        available = training or (spare if by_name else [])
        if not share or numbers[split] or not available:
            continue
        if split == GATE or by_name:
            chosen = min(available, key=_nearness(split, config.seed))
        else:
            chosen = min(available, key=lambda group: (group.size, seeded_hash(config.seed, group.name)))
        given[chosen.name] = split
    return given


def _nearness(split: Split, seed: int) -> Callable[[Group], str]:
    return lambda group: seeded_hash(seed, f"{split}: {group.drawn_name}")


def assign_by_name(
    groups: Iterable[Group], shares: Mapping[Split, float], seed: int, fixed: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """Assign a split to each group by the hashes of its name alone: one for test, and for what is left one for valid, then for the gate.

    A group's split does not change with the other groups. Each stratum gives its share on average: of n groups, a share p is met
    with a standard deviation of sqrt(p (1 - p) / n). Groups in `fixed` keep theirs.
    """
    splits: dict[str, Split] = {}
    for group in groups:
        if fixed and group.name in fixed:
            splits[group.name] = fixed[group.name]
            continue
        remaining, splits[group.name] = 1.0, "train"
        for split in (*FILLED, GATE):
            share = shares.get(split, 0.0)
            if _falls_to(split, group.drawn_name, share / remaining, seed):
                splits[group.name] = split
                break
            remaining -= share
    return splits


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
        group.name: GATE if _falls_to(GATE, group.name, gate_share, seed) else "train"
        for group in drawn
        if group.name not in splits
    }
    splits |= rest
    return {group.name: splits[group.name] for group in drawn}


def seeded_hash(seed: int, name: str) -> str:
    """Return hex digits that depend on `seed` and `name` alone. Sorting by them draws an order."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _falls_to(split: Split, name: str, share: float, seed: int) -> bool:
    """Return True for about `share` of the names, by a hash that each split has for itself."""
    return int(seeded_hash(seed, f"{split}: {name}")[:13], 16) < share * 16**13


def _fill(splits: dict[str, Split], members: list[Group], split: Split, share: float) -> None:
    """Give `split` the groups that fit into its share of `members`, in their order."""
    target = round(share * sum(group.size for group in members))
    room = target - sum(group.size for group in members if splits.get(group.name) == split)
    for group in members:
        if group.name not in splits and group.size <= room:
            splits[group.name] = split
            room -= group.size
