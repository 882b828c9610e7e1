"""Licence algebra: the licences that a model may have, given those of its base and its data.

A permissive licence (or the public domain) leaves the licence of the model open and only requires a notice. Any other licence binds the model to
itself, or to a licence that its own text or steward names as compatible (`COMPATIBLE`). Weights are treated as a work derived from the data. No
court has decided this question, and this is the stricter reading.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations
from typing import Any

from tasks.core.licenses.expressions import Alternatives, alternatives, category, is_known

FREE = {"Permissive", "Public Domain"}
COMPATIBLE: Mapping[str, tuple[str, ...]] = {
    # https://creativecommons.org/share-your-work/licensing-considerations/compatible-licenses
    "CC-BY-SA-3.0": ("CC-BY-SA-4.0",),
    "CC-BY-SA-4.0": ("GPL-3.0-only", "GPL-3.0-or-later"),
    "CC-BY-NC-3.0": ("CC-BY-NC-SA-3.0", "CC-BY-NC-4.0"),
    "CC-BY-NC-4.0": ("CC-BY-NC-SA-4.0",),
    "CC-BY-NC-SA-3.0": ("CC-BY-NC-SA-4.0",),
    # https://www.gnu.org/licenses/gpl-faq.html#AllCompatibility
    "GPL-2.0-or-later": ("GPL-2.0-only", "GPL-3.0-only", "GPL-3.0-or-later"),
    "GPL-3.0-or-later": ("GPL-3.0-only",),
    "AGPL-3.0-or-later": ("AGPL-3.0-only",),
    "LGPL-2.1-only": ("GPL-2.0-only", "GPL-2.0-or-later"),
    "LGPL-2.1-or-later": ("LGPL-2.1-only", "LGPL-3.0-only", "LGPL-3.0-or-later", "GPL-2.0-or-later"),
    "LGPL-3.0-only": ("GPL-3.0-only",),
    "LGPL-3.0-or-later": ("LGPL-3.0-only", "GPL-3.0-or-later"),
    # https://www.mozilla.org/MPL/2.0/, section 1.12
    "MPL-2.0": ("GPL-2.0-or-later", "LGPL-2.1-or-later", "AGPL-3.0-or-later"),
}
"""Licence → licences under which a derived work may be distributed, in one step. Several steps may follow each other."""
INCOMPATIBLE: Mapping[str, tuple[str, ...]] = {
    "Apache-2.0": ("GPL-2.0-only", "LGPL-2.1-only"),  # https://www.gnu.org/licenses/license-list.html#apache2
    "BSD-4-Clause": ("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later"),
}
"""Permissive licence → licences of works that must not contain code under it."""


@dataclass(frozen=True)
class Terms:
    """The terms that the licences of base and data leave for a model."""

    licenses: tuple[str, ...]
    """The licences that the model may have; none if it may have any, or if there is a conflict."""
    notices: tuple[str, ...]
    """The licences whose notices must accompany the model."""
    conflict: str
    """The reason why the model can have no licence, or not the wanted one; empty without a conflict."""
    unknown: Mapping[str, Collection[str]]
    """Unknown licence → names of the data or models that have it."""

    @property
    def sentence(self) -> str:
        """Return the terms in words."""
        if self.conflict:
            return self.conflict
        notices = f", with the notices of {', '.join(self.notices)}" if self.notices else ""
        return f"{' or '.join(self.licenses) or 'any licence'}{notices}"

    def record(self) -> dict[str, Any]:
        """Return the terms as values for a JSON file."""
        return asdict(self) | {"unknown": {name: sorted(holders) for name, holders in sorted(self.unknown.items())}}


def combine(holders: Mapping[str, Collection[str]], wanted: str | None = None) -> Terms:
    """Return the terms for a model that was made from `holders`: licence → names of the data or models that have it.

    `wanted` is the licence that the model should have. Raises ValueError if it is unknown, or several licences at once.
    """
    wished = None if wanted is None else _wished(wanted)
    read = {name: alternatives(name) for name in sorted(holders)}
    known = {name: options for name, options in read.items() if options}
    unknown = {name: tuple(sorted(holders[name])) for name, options in read.items() if not options}
    targets = sorted(_candidates(known)) if wished is None else wished
    if wished is None and all(any(map(_is_free, option)) for option in known.values()):
        return Terms((), _notices(known, None), "", unknown)
    allowed = tuple(target for target in targets if _admits(known, target))
    if not allowed:
        return Terms((), (), _conflict(known, holders, targets, wanted), unknown)
    return Terms(allowed, _notices(known, allowed[0]), "", unknown)


def _wished(wanted: str) -> list[str]:
    """Return the licences of an expression that offers a choice of single licences."""
    if not is_known(wanted):
        raise ValueError(f"{wanted!r} is not a known SPDX licence. https://spdx.org/licenses/ lists them.")
    options = alternatives(wanted)
    if any(len(option) > 1 for option in options):
        raise ValueError(f"{wanted!r} asks for several licences at once; name one, or several with OR.")
    return [name for option in options for name in option]


def _candidates(known: Mapping[str, Alternatives]) -> Iterator[str]:
    """Yield the binding licences and those compatible with them."""
    names = {name for options in known.values() for option in options for name in option if not _frees(name)}
    return iter({target for name in names for target in _accepted(name)})


def _admits(known: Mapping[str, Alternatives], target: str) -> bool:
    return all(_choice(options, target) is not None for options in known.values())


def _choice(options: Alternatives, target: str | None) -> frozenset[str] | None:
    """Return the first alternative whose licences all allow a work under `target`; None if there is none."""
    return next((option for option in options if all(_allows(name, target) for name in option)), None)


def _is_free(option: frozenset[str]) -> bool:
    return all(map(_frees, option))


def _frees(name: str) -> bool:
    return category(name) in FREE


def _allows(name: str, target: str | None) -> bool:
    if _frees(name):
        return target not in INCOMPATIBLE.get(name, ())
    return target in _accepted(name)


@cache
def _accepted(name: str) -> frozenset[str]:
    """Return the licences under which a work derived from one under `name` may be distributed; none if that licence forbids derived works."""
    if "-ND-" in name or category(name) == "Commercial":
        return frozenset()
    reached, pending = {name}, [name]
    while pending:
        following = set(COMPATIBLE.get(pending.pop(), ())) - reached
        reached |= following
        pending += following
    return frozenset(reached)


def _notices(known: Mapping[str, Alternatives], target: str | None) -> tuple[str, ...]:
    chosen = [_choice(options, target) or frozenset() for options in known.values()]
    return tuple(sorted({name for option in chosen for name in option if category(name) != "Public Domain"}))


def _conflict(
    known: Mapping[str, Alternatives], holders: Mapping[str, Collection[str]], targets: list[str], wanted: str | None
) -> str:
    """Return the reason why no licence is possible: one licence that forbids it, or two that exclude each other."""

    def named(name: str) -> str:
        first, *others = sorted(holders[name])
        return f"{name} ({first}{f' and {len(others)} more' if others else ''})"

    if wanted:
        admitted = {name: [_admits({name: options}, target) for target in targets] for name, options in known.items()}
        barring = [name for name in admitted if not any(admitted[name])]
        barring = barring or [
            name for name in admitted if not all(admitted[name])
        ]  # each of them excludes one of the targets
        return f"the licence {wanted} is not allowed by {', '.join(map(named, barring))}"
    for name, options in known.items():
        if not any(_admits({name: options}, target) for target in targets) and not any(map(_is_free, options)):
            return f"{named(name)} allows no derived model"
    for first, second in combinations(known, 2):
        pair = {name: known[name] for name in (first, second)}
        if not any(_admits(pair, target) for target in targets) and not all(
            any(map(_is_free, option)) for option in pair.values()
        ):
            return f"{named(first)} and {named(second)} exclude each other"
    return f"no licence meets all of {', '.join(map(named, known))}"
