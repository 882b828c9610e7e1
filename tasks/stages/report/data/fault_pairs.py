"""Pairs of wrong and right programs that determine a round's loss weights: counts, a selection, and their differences as marked pieces."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tasks.core.records import FaultPair, Refusal
from tasks.core.text.sensitive import search
from tasks.methods.objectives.fait import marks

SHOWN = 10
"""Most pairs on the page."""


@dataclass(frozen=True)
class Faults:
    """The output of stage `faults` for a round."""

    pairs: Sequence[FaultPair]
    refused: Sequence[Refusal]

    @property
    def verified(self) -> float:
        """Return the share of the pairs in which tests told the right program from the wrong one."""
        return sum(pair.verified for pair in self.pairs) / max(len(self.pairs), 1)

    @property
    def marked(self) -> float:
        """Return the share of the responses' tokens that carry a mark, averaged over pairs."""
        return sum(pair.marked for pair in self.pairs) / max(len(self.pairs), 1)

    @property
    def commented(self) -> float:
        """Return the share of marked tokens that are in comments or docstrings, averaged over pairs."""
        return sum(pair.commented for pair in self.pairs) / max(len(self.pairs), 1)

    @property
    def kinds(self) -> dict[str, int]:
        """Return the number of pairs of each kind."""
        return dict(Counter(map(kind, self.pairs)).most_common())

    @property
    def reasons(self) -> dict[str, int]:
        """Return the number of candidates refused for each reason."""
        return dict(Counter(refusal.reason for refusal in self.refused).most_common())


@dataclass(frozen=True)
class Piece:
    """A span of a program with one mark."""

    text: str
    mark: str
    """`char` for characters that differ, `anchor` for a place where the other side has more, `line` for the rest of a changed line, or empty."""


def kind(pair: FaultPair) -> str:
    """Return the origin of a pair: `mutation: comparison`, `given`."""
    return f"{pair.source}: {pair.origin}" if pair.source == "mutation" else pair.source


def choose_pairs(pairs: Sequence[FaultPair], count: int = SHOWN) -> list[FaultPair]:
    """Choose `count` pairs, one of each kind in turn, by their ids (which are hashes)."""
    by_kind: defaultdict[str, list[FaultPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: pair.id):
        by_kind[kind(pair)].append(pair)
    in_turn = zip_longest(*(by_kind[name] for name in sorted(by_kind)))
    return [pair for turn in in_turn for pair in turn if pair is not None][:count]


def sides(pair: FaultPair) -> dict[str, list[Piece]]:
    """Return both programs cut into pieces, under `wrong` and `right`."""
    return {
        "wrong": pieces(pair.incorrect, pair.bad_lines, pair.bad_chars, ()),
        "right": pieces(pair.correct, pair.good_lines, pair.good_chars, pair.anchors),
    }


def pieces(text: str, lines: Sequence[int], chars: Sequence[Sequence[int]], anchors: Sequence[int]) -> list[Piece]:
    """Return the text cut where its marks change. A secret is one piece, which shows a placeholder."""
    layers = {
        "line": marks.of_lines(text, lines),
        "anchor": [(at, at + 1) for at in anchors],
        "char": [(start, end) for start, end in chars],
    }
    kinds = [""] * len(text)
    for mark, spans in layers.items():  # later layers cover earlier ones
        for start, end in spans:
            kinds[start:end] = [mark] * (min(end, len(text)) - start)
    secrets = {span.start: span for span in search.spans(text, search.SECRETS)}
    inside = {at for span in secrets.values() for at in range(span.start + 1, span.end)}
    ends = {at for span in secrets.values() for at in (span.start, span.end)}
    edges = [at for at in range(1, len(text)) if at in ends or (kinds[at] != kinds[at - 1] and at not in inside)]
    return [
        Piece(secrets[start].placeholder if start in secrets else text[start:end], kinds[start])
        for start, end in zip([0, *edges], [*edges, len(text)], strict=True)
        if start < end
    ]
