"""Draw the splits (train, valid, test, gate) without dividing groups.

By size, each stratum meets its shares as far as its groups allow. By name, a group's split never changes. Groups are stored as arrays, so that
there may be as many groups as rows. All draws depend on hashes of the groups' names.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.core.records import Document, Message, Split, content_id, identify
from tasks.core.text.shingles import Hashes, Indices
from tasks.io import tables
from tasks.stages.ingest.config import IngestConfig

SPLITS: tuple[Split, ...] = get_args(Split)
"""Arrays store a split as its index in this tuple."""
TRAIN, VALID, TEST, GATE = (SPLITS.index(split) for split in ("train", "valid", "test", "gate"))
FILLED = (TEST, VALID)
NEEDED: tuple[Split, ...] = ("train", "valid", "test")
"""The splits that training and measuring need. There must be at least one group for each; if there are no more, there is no gate."""
UNDRAWN = -1
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Group:
    """Records that must share a split."""

    name: str
    stratum: str
    """The groups of a stratum, such as a package, are spread over the splits."""
    size: int
    """Number of examples, or of characters of documents."""
    alias: str = ""
    """The name by which its split is drawn, if that differs from `name`."""

    @property
    def drawn_name(self) -> str:
        """The name whose hash draws its split."""
        return self.alias or self.name


@dataclass(frozen=True)
class Groups:
    """A large number of groups, in the order of the hashes of their names."""

    order: Hashes
    """The first 64 bits of the hash of each name."""
    nearness: Mapping[int, Hashes]
    """Split → the first 64 bits of the hash that decides whether a group falls to the split."""
    strata: Indices
    sizes: Indices

    @classmethod
    def of(cls, groups: Sequence[Group], seed: int) -> "Groups":
        """Return groups as arrays. They must be in the order of `in_order`."""
        strata = {name: code for code, name in enumerate(dict.fromkeys(group.stratum for group in groups))}
        return cls(
            _bits(seed, (group.name for group in groups)),
            _nearness(seed, [group.drawn_name for group in groups], range(len(SPLITS))),
            np.array([strata[group.stratum] for group in groups], np.int64),
            np.array([group.size for group in groups], np.int64),
        )

    def take(self, places: Indices) -> "Groups":
        """Return the groups at these indices."""
        nearness = {split: bits[places] for split, bits in self.nearness.items()}
        return Groups(self.order[places], nearness, self.strata[places], self.sizes[places])


class SplitsOfGroups:
    """The splits of groups by name, and of records in their order."""

    def __init__(self, seed: int, order: Hashes, splits: Codes, groups_of_records: Indices) -> None:
        self._seed, self._order, self._splits = seed, order, splits
        self.groups_of_records = groups_of_records
        """The index of the group of each record."""

    @property
    def of_records(self) -> Codes:
        """Return the split of each record, in the order in which they were added."""
        return self._splits[self.groups_of_records]

    def moved(self, group: int, split: int) -> "SplitsOfGroups":
        """Return the splits with this group moved to another split."""
        splits = self._splits.copy()
        splits[group] = split
        return SplitsOfGroups(self._seed, self._order, splits, self.groups_of_records)

    def of(self, names: Iterable[str]) -> dict[str, Split]:
        """Return the splits of the groups in `names` that have records."""
        splits: dict[str, Split] = {}
        for name in names:
            (bits,) = _bits(self._seed, [name])
            place = int(np.searchsorted(self._order, bits))
            if place < len(self._order) and self._order[place] == bits:
                splits[name] = SPLITS[self._splits[place]]
        return splits


class Drawing:
    """Collects the groups of examples, then draws their splits."""

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self._strata: dict[str, int] = {}
        self._order, self._strata_of_examples = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        self._nearness = {split: [np.zeros(0, np.uint64)] for split in self._needed()}
        self._given = [np.zeros(0, np.int8)]

    @property
    def columns(self) -> list[str]:
        """Return the columns of examples that `add` needs."""
        return ["group", "domain", "split", *(("source", "messages") if self._config.splits.by == "name" else ())]

    def add(self, examples: pl.DataFrame) -> None:
        """Add examples."""
        strata = examples["domain"].unique(maintain_order=True)
        for stratum in strata:
            self._strata.setdefault(stratum, len(self._strata))
        first = examples.with_row_index("place").unique("group", keep="first", maintain_order=True)
        groups = examples["group"].cast(pl.Enum(first["group"])).to_physical().to_numpy()
        drawn = _drawn_names(first, self._config)
        self._order.append(_bits(self._config.seed, first["group"])[groups])
        for split, bits in _nearness(self._config.seed, drawn, self._needed()).items():
            self._nearness[split].append(bits[groups])
        self._given.append(examples["split"].cast(pl.Enum(SPLITS)).to_physical().to_numpy().astype(np.int8))
        strata_of_examples = examples["domain"].replace_strict(self._strata, return_dtype=pl.Int64)
        self._strata_of_examples.append(strata_of_examples.to_numpy())

    def draw(self) -> SplitsOfGroups:
        """Draw the split of each group. A split with a share that would be empty gets one group, if there are enough.

        There is no gate if it would take the last group of train, valid or test. Groups that the data hold out keep their split, and no
        other groups are drawn for such a split.
        """
        order = np.concatenate(self._order)
        by_name = np.argsort(order, kind="stable")
        starts = np.append(True, order[by_name[1:]] != order[by_name[:-1]])[: len(by_name)]
        groups_of_records = np.empty(len(by_name), np.int64)
        groups_of_records[by_name] = np.cumsum(starts) - 1
        first = by_name[starts]
        sizes = np.bincount(groups_of_records, minlength=len(first))
        nearness = {split: np.concatenate(bits)[first] for split, bits in self._nearness.items()}
        groups = Groups(order[first], nearness, np.concatenate(self._strata_of_examples)[first], sizes)
        fixed = self._held_out(groups_of_records, len(first))
        given = [SPLITS[code] for code in np.unique(fixed[fixed != UNDRAWN])]
        config = self._config if len(first) > len(NEEDED) else _without_shares(self._config, ["gate"])
        drawn = _assign(groups, _without_shares(config, given), fixed)
        splits = _one_group_each(drawn, groups, config, fixed, config.splits.held_out)
        return SplitsOfGroups(self._config.seed, groups.order, splits, groups_of_records)

    def _held_out(self, groups_of_records: Indices, num_groups: int) -> Codes:
        """Return the split for which the data hold out each group, `UNDRAWN` for the others. Test has precedence over gate, gate over valid."""
        given, fixed = np.concatenate(self._given), np.full(num_groups, UNDRAWN, np.int8)
        for code in (VALID, GATE, TEST):
            fixed[groups_of_records[given == code]] = code
        return fixed

    def _needed(self) -> Sequence[int]:
        """Return the splits whose groups a hash decides."""
        if self._config.splits.by == "name":
            return range(len(SPLITS))
        return [GATE] if self._config.splits.gate else []


def _drawn_names(examples: pl.DataFrame, config: IngestConfig) -> list[str]:
    """Return the names by which the splits of the groups of examples are drawn.

    If names decide, a row that is a group of its own is named by its prompt. So rows with the same prompt share a split, and a row keeps its
    split at any place in its file.
    """
    if config.splits.by != "name":
        return examples["group"].to_list()
    prompts = [row.messages[:-1] for row in tables.records(examples.select("messages"), _Spoken)]
    is_alone = (examples["group"] == examples["source"]).to_list()
    return [
        f"prompt {identify(prompt)}" if alone else name
        for name, prompt, alone in zip(examples["group"], prompts, is_alone, strict=True)
    ]


@dataclass(frozen=True)
class _Spoken:
    messages: list[Message]


class TextFacts(NamedTuple):
    """The length and id of a text."""

    chars: int
    id: str
    """Its `content_id`."""


def split_documents(
    documents: Sequence[Document],
    strata: Sequence[str],
    config: IngestConfig,
    fixed: Mapping[str, Split],
    texts: Sequence[TextFacts] | None = None,
) -> list[Split]:
    """Return the split of each document. Groups in `fixed`, those of examples, keep their split; the others fill up the shares.

    `texts` are the facts of the documents' texts, if the documents come without them.
    """
    texts = texts or [TextFacts(len(document.text), content_id(document.text)) for document in documents]
    by_name: dict[str, Group] = {}
    for document, stratum, text in zip(documents, strata, texts, strict=True):
        group = by_name.get(document.group, Group(document.group, stratum, 0, _alias(document, text, config)))
        by_name[document.group] = replace(group, size=group.size + text.chars)
    ordered = in_order(by_name.values(), config.seed)
    groups, kept = Groups.of(ordered, config.seed), codes(ordered, fixed)
    splits = _assign(groups, config, kept)
    shares = config.splits.held_out
    # `valid` may have no texts, since a training need not be steered by texts.
    measured: dict[Split, float] = {"test": shares["test"], "gate": shares["gate"]}
    for domain in sorted({document.domain for document in documents}):
        names = {document.group for document in documents if document.domain == domain}
        places = np.array([place for place, group in enumerate(ordered) if group.name in names], np.int64)
        filled = shares if config.splits.by == "name" and len(places) > len(NEEDED) else measured
        splits[places] = _one_group_each(splits[places], groups.take(places), config, kept[places], filled)
    of_groups = {group.name: SPLITS[split] for group, split in zip(ordered, splits, strict=True)}
    return [of_groups[document.group] for document in documents]


def _alias(document: Document, text: TextFacts, config: IngestConfig) -> str:
    """Return the name by which the split of a document's group is drawn, if it differs: the text of a row that is a group of its own."""
    is_row = document.group == document.source and document.source.startswith("file ")  # not a description of a package
    return f"text {text.id}" if is_row and config.splits.by == "name" else ""


def in_order(groups: Iterable[Group], seed: int) -> list[Group]:
    """Return groups in an order drawn from the seed."""
    return sorted(groups, key=lambda group: seeded_hash(seed, group.name))


def _assign(groups: Groups, config: IngestConfig, fixed: Codes) -> Codes:
    split = split_by_name if config.splits.by == "name" else split_by_size
    return split(groups, config.splits.held_out, fixed)


def _without_shares(config: IngestConfig, splits: Iterable[Split]) -> IngestConfig:
    """Return the config with a share of 0 for these splits."""
    return config.model_copy(update={"splits": config.splits.model_copy(update=dict.fromkeys(splits, 0.0))})


def _one_group_each(
    splits: Codes, groups: Groups, config: IngestConfig, fixed: Codes, shares: Mapping[Split, float]
) -> Codes:
    """Give each empty split with a share one group of a split that has several, if there is one, and return the splits.

    By size, it is the smallest training group; only the gate takes the group with the smallest hash for the gate. By name, every split takes
    the group with the smallest hash for it, of the training groups if there are at least two; train itself may be empty too. Once the data
    have grown, the name alone decides about such a group.
    """
    by_name = config.splits.by == "name"
    splits = splits.copy()
    for split, share in ({**shares, "train": 1.0} if by_name else shares).items():
        code, numbers = SPLITS.index(split), np.bincount(splits, minlength=len(SPLITS))
        spare = (numbers[splits] > 1) & (fixed == UNDRAWN)
        training = spare & (splits == TRAIN)
        available = np.flatnonzero(training if training.any() or not by_name else spare)
        if not share or numbers[code] or not len(available):
            continue
        preferred = groups.nearness[code] if code == GATE or by_name else groups.sizes
        splits[available[np.argmin(preferred[available])]] = code
    return splits


def codes(groups: Sequence[Group], fixed: Mapping[str, Split]) -> Codes:
    """Return the splits of groups in `fixed` as an array, `UNDRAWN` for the others."""
    return np.array([SPLITS.index(fixed[group.name]) if group.name in fixed else UNDRAWN for group in groups], np.int8)


def split_by_name(groups: Groups, shares: Mapping[Split, float], fixed: Codes) -> Codes:
    """Return a split for each group from hashes of its name alone: first test, then of the rest valid, then gate.

    A group's split does not depend on other groups. The shares are met on average: with n groups, a share p has a standard deviation of
    sqrt(p (1 - p) / n). Groups keep their split in `fixed`.
    """
    splits, remaining = fixed.copy(), 1.0
    for code in (*FILLED, GATE):
        share = shares.get(SPLITS[code], 0.0)
        splits[(splits == UNDRAWN) & _falls_to(code, groups, share / remaining)] = code
        remaining -= share
    splits[splits == UNDRAWN] = TRAIN
    return splits


def split_by_size(groups: Groups, shares: Mapping[Split, float], fixed: Codes) -> Codes:
    """Return a split for each group, in an order drawn from the seed. Groups keep their split in `fixed`, and count towards its share.

    1. Each stratum fills its share of test, then of valid, with the groups that fit.
    2. Groups of any stratum fill what is still missing, since one large module may be a whole stratum.
    3. For the rest, a hash of the group's name alone decides between gate and train. So no group ever moves between gate and
       training as the data grow; the gate's share is met only on average.
    """
    splits = fixed.copy()
    by_stratum = np.argsort(groups.strata, kind="stable")
    bounds = np.flatnonzero(np.diff(groups.strata[by_stratum])) + 1
    for members in [*np.split(by_stratum, bounds), np.arange(len(splits))]:
        for code in FILLED:
            _fill(splits, groups.sizes, members, code, shares[SPLITS[code]])
    gate_share = shares.get("gate", 0) / (1 - sum(shares[SPLITS[code]] for code in FILLED))
    if gate_share:
        splits[(splits == UNDRAWN) & _falls_to(GATE, groups, gate_share)] = GATE
    splits[splits == UNDRAWN] = TRAIN
    return splits


def _falls_to(split: int, groups: Groups, share: float) -> NDArray[np.bool_]:
    """Return True for about `share` of the groups, by a hash that differs between splits."""
    falls: NDArray[np.bool_] = (groups.nearness[split] >> np.uint64(12)).astype(np.float64) < share * 16**13
    return falls  # a float represents 52 bits exactly


def _fill(splits: Codes, sizes: Indices, members: Indices, code: int, share: float) -> None:
    """Give a split the groups among `members` that fit into its share of them, in their order."""
    room = round(share * int(sizes[members].sum())) - int(sizes[members][splits[members] == code].sum())
    members = members[splits[members] == UNDRAWN]
    while len(members := members[sizes[members] <= room]):
        total = np.cumsum(sizes[members])
        fitting = int(np.searchsorted(total, room, side="right"))
        splits[members[:fitting]] = code
        room -= int(total[fitting - 1])
        members = members[fitting:]


def seeded_hash(seed: int, name: str) -> str:
    """Return hex digits that depend only on `seed` and `name`. Sorting by them gives a random order."""
    return _sha256(seed, name).hexdigest()


def _sha256(seed: int, name: str) -> "hashlib._Hash":
    return hashlib.sha256(f"{seed} {name}".encode())


def _nearness(seed: int, names: Sequence[str], splits: Iterable[int]) -> dict[int, Hashes]:
    """Return, for each split, the hashes that decide whether groups of these names fall to it."""
    return {split: _bits(seed, (f"{SPLITS[split]}: {name}" for name in names)) for split in splits}


def _bits(seed: int, names: Iterable[str]) -> Hashes:
    """Return the first 64 bits of the hash of each name.

    Among 10^8 groups, a collision has a probability of 0.03 %. Groups with equal bits share a split.
    """
    digests = b"".join(_sha256(seed, name).digest()[:8] for name in names)
    return np.frombuffer(digests, ">u8").astype(np.uint64)
