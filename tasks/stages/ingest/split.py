"""Train, valid, test and gate by group: no group is cut, and each stratum gives its share where its groups allow it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.core.records import Split

FILLED: tuple[Split, ...] = ("test", "valid")


@dataclass(frozen=True)
class Group:
    """What must stay together, and how much it weighs."""

    name: str
    stratum: str
    """Groups of a stratum (a package) are spread over the splits."""
    size: int


def assign(
    groups: Iterable[Group], shares: Mapping[Split, float], seed: int, fixed: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """The split of each group, in an order drawn from the seed. Groups in `fixed` keep theirs and count.

    Each stratum fills its part of test, then of valid, with the groups that fit; what a stratum could not give (one
    large module is a package of its own) the others make up for. Of the rest, a group's own name decides whether it is the
    gate's: however the data grow, nothing that the gate ever held is trained on later, nor the other way round. So its share
    is met on average only. What is left trains.
    """
    drawn = sorted(groups, key=lambda group: draw(seed, group.name))
    splits: dict[str, Split] = {group.name: fixed[group.name] for group in drawn if fixed and group.name in fixed}
    strata: defaultdict[str, list[Group]] = defaultdict(list)
    for group in drawn:
        strata[group.stratum].append(group)
    for members in [*(strata[name] for name in sorted(strata)), drawn]:
        for split in FILLED:
            _fill(splits, members, split, shares[split])
    of_rest = shares.get("gate", 0) / (1 - sum(shares[split] for split in FILLED))
    rest: dict[str, Split] = {
        group.name: "gate" if _is_gates(group.name, of_rest, seed) else "train"
        for group in drawn
        if group.name not in splits
    }
    return {group.name: (splits | rest)[group.name] for group in drawn}


def draw(seed: int, name: str) -> str:
    """A number for `name` that looks random and is the same everywhere, as hex digits."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _is_gates(name: str, share: float, seed: int) -> bool:
    """Whether a group falls to the gate, by a draw of its own: that of the others has put the lowest into test and valid."""
    return int(draw(seed, f"gate: {name}")[:13], 16) < share * 16**13


def _fill(splits: dict[str, Split], members: list[Group], split: Split, share: float) -> None:
    """Give `split` the groups that fit into its share of `members`, in their order."""
    target = round(share * sum(group.size for group in members))
    room = target - sum(group.size for group in members if splits.get(group.name) == split)
    for group in members:
        if group.name not in splits and group.size <= room:
            splits[group.name] = split
            room -= group.size
