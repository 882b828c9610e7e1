"""Choose the examples to keep and draw their splits: limits, duplicates, near-duplicates, contamination.

Rules use arrays with one entry for each example of all shards, where the benchmark comes first. Texts stay on disk.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Split
from tasks.core.stage import Run
from tasks.core.text.contamination import find_overlaps
from tasks.core.text.near_duplicates import Likeness, Limits, compared_texts, find_near_duplicates
from tasks.core.text.shingles import Indices
from tasks.core.text.texts import Apply, Selection, Track, apply_here
from tasks.stages.ingest.config import IngestConfig, Rows
from tasks.stages.ingest.filtering import duplicates
from tasks.stages.ingest.filtering.duplicates import FEW, RANKS, SHINGLE
from tasks.stages.ingest.shards.collection import Shards
from tasks.stages.ingest.shards.shard import SIDES
from tasks.stages.ingest.splits import SPLITS, TEST, TRAIN, Drawing, SplitsOfGroups, seeded_hash

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
EMBEDDED = 20_000
"""Number of responses that are in memory at the same time for embedding."""
RANK_OF_SPLIT = np.array([RANKS[split] for split in SPLITS], np.int8)


class Rule(IntEnum):
    """The rules that refuse an example, in the order in which they are applied."""

    NONE = 0
    TOO_LONG = 1
    EQUAL = 2
    OVER_LIMIT = 3
    ALIKE = 4
    OVERLAPS = 5


@dataclass(frozen=True)
class Decisions:
    """The rule that refused each example, and its split. The examples of the benchmark come first."""

    num_benchmark: int
    rules: NDArray[np.int8]
    """The `Rule` that refused each example."""
    twins: Indices
    """The number of the example because of which each was refused; -1 if there is none."""
    similarities: NDArray[np.float32]
    """The similarity of prompts and of responses of near-duplicates, shape (examples, sides); 0 on a side that did not decide."""
    splits: NDArray[np.int8]
    """The index of each example's split in `SPLITS`."""
    drawn: SplitsOfGroups

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Return True for each example that is kept; False for all examples of the benchmark."""
        kept = self.rules == Rule.NONE
        kept[: self.num_benchmark] = False
        return kept

    @property
    def sizes(self) -> dict[Split, int]:
        """Return the number of kept examples of each split."""
        counts = np.bincount(self.splits[self.kept], minlength=len(SPLITS))
        return dict(zip(SPLITS, counts.tolist(), strict=True))

    @property
    def num_groups(self) -> dict[Split, int]:
        """Return, for each split, the number of groups with kept examples."""
        is_drawn = (self.rules == Rule.NONE) | (self.rules > Rule.OVER_LIMIT)
        is_drawn[: self.num_benchmark] = False
        is_kept = self.rules[is_drawn] == Rule.NONE
        groups, splits = self.drawn.groups_of_records[is_kept], self.splits[is_drawn][is_kept]
        return {split: len(np.unique(groups[splits == code])) for code, split in enumerate(SPLITS)}

    @property
    def evaluation(self) -> Indices:
        """Return the numbers of the examples on which models are evaluated: the benchmark, and the held-out examples."""
        is_held_out = self.kept & (self.splits != TRAIN)
        is_held_out[: self.num_benchmark] = True
        return np.flatnonzero(is_held_out)


class Filter:
    """Applies the rules one after the other."""

    def __init__(
        self,
        shards: Shards,
        num_benchmark: int,
        config: IngestConfig,
        scratch: Path,
        run: Run,
        rescued: Collection[str] = (),
        apply: Apply = apply_here,
        known: Apply | None = None,
    ) -> None:
        """Take the first `num_benchmark` examples as evaluation only: they are never refused, and take precedence over all others.

        Examples whose ids are `rescued` are refused only if they equal another example or leak an evaluation example. `known` applies
        functions like `apply`, and may take their results from an earlier run.
        """
        self._shards, self._first, self._config, self._scratch, self._run = shards, num_benchmark, config, scratch, run
        self._apply, self._known = apply, known
        self._rules = np.zeros(len(shards), np.int8)
        self._twins = np.full(len(shards), -1, np.int64)
        self._similarities = np.zeros((len(shards), len(SIDES)), np.float32)
        self._splits = np.full(len(shards), TEST, np.int8)
        self._short_prompts = np.zeros(len(shards), np.uint64)
        """Hashes of the prompts that have too few words for a comparison by shingles; 0 for all others."""
        self._is_rescued = shards.has_id(rescued)

    def apply(self, embed: Embed) -> Decisions:
        """Return the decision on each example."""
        self._refuse_too_long()
        self._refuse_equal()
        self._refuse_over_limit()
        drawn = self._draw_splits()
        compared = self._remaining()
        self._refuse_alike(embed)
        self._refuse_equal_prompts()
        self._refuse_overlapping()
        drawn = self._fill_emptied(drawn, compared)
        return Decisions(self._first, self._rules, self._twins, self._similarities, self._splits, drawn)

    def _remaining(self) -> Indices:
        """Return the numbers of the examples, without the benchmark, that no rule has refused so far."""
        return np.flatnonzero(self._rules[self._first :] == Rule.NONE) + self._first

    def _refuse(self, rule: Rule, numbers: Indices, twins: Indices | int = -1) -> None:
        self._rules[numbers] = rule
        self._twins[numbers] = twins

    def _refuse_too_long(self) -> None:
        for places, shard in self._shards:
            facts = shard.facts()
            is_too_long = (facts["prompt_chars"] > self._config.max_prompt_chars) | (
                facts["response_chars"] > self._config.max_response_chars
            )
            numbers = np.flatnonzero(is_too_long & ~self._is_rescued[places]) + places.start
            self._refuse(Rule.TOO_LONG, numbers[numbers >= self._first])

    def _refuse_equal(self) -> None:
        """Refuse examples that equal an earlier one, one that its source holds out, or an item of the benchmark."""
        remaining, contents = self._remaining(), self._shards.facts("content")
        order = remaining
        if any(isinstance(source, Rows) and (source.held_out or source.split_by) for source in self._config.sources):
            is_held_out = self._shards.held_out()[remaining]
            order = np.concatenate([remaining[is_held_out], remaining[~is_held_out]])
        order = order[np.argsort(contents[order], kind="stable")]
        starts = np.flatnonzero(np.append(True, contents[order[1:]] != contents[order[:-1]])[: len(order)])
        first = np.repeat(order[starts], np.diff(np.append(starts, len(order))))
        self._refuse(Rule.EQUAL, order[first != order], first[first != order])
        if not self._first:
            return
        spoken = self._shards.facts("spoken")
        held_out, places = np.unique(spoken[: self._first], return_index=True)
        nearest = np.minimum(np.searchsorted(held_out, spoken[remaining]), len(held_out) - 1)
        is_leaked = held_out[nearest] == spoken[remaining]
        self._refuse(Rule.EQUAL, remaining[is_leaked], places[nearest[is_leaked]])

    def _refuse_over_limit(self) -> None:
        """Keep `max_examples` examples, drawn by the seed."""
        remaining, limit = self._remaining(), self._config.max_examples
        if limit is None or len(remaining) <= limit:
            return
        hashes = []
        for places, shard in self._shards:
            ids = shard.examples(["id"])["id"].gather(self._local(remaining, places))
            hashes += [int(seeded_hash(self._config.seed, id)[:16], 16) for id in ids]
        order = np.argsort(np.array(hashes, np.uint64), kind="stable")
        beyond = remaining[order[limit:]]
        self._refuse(Rule.OVER_LIMIT, beyond[~self._is_rescued[beyond]])

    def _draw_splits(self) -> SplitsOfGroups:
        drawing, remaining = Drawing(self._config), self._remaining()
        for places, shard in self._shards:
            drawing.add(shard.examples(drawing.columns)[self._local(remaining, places)])
        drawn = drawing.draw()
        self._splits[remaining] = drawn.of_records
        return drawn

    def _refuse_alike(self, embed: Embed) -> None:
        """Refuse near-duplicates of examples with precedence. Prompts are compared with prompts, responses with responses.

        A prompt is everything before the last answer, including earlier answers of a conversation. Rejected answers are not compared.
        """
        numbers = np.concatenate([np.arange(self._first), self._remaining()])
        ranks = self._ranks(numbers)
        near = self._config.near_duplicates
        sides: list[Likeness] = []
        pairs = np.zeros((0, 2), np.int64)
        limits = Limits(
            near.jaccard or 0, SHINGLE, near.min_words - SHINGLE + 1, max(FEW, near.template * len(numbers))
        )
        if near.jaccard is not None:
            for side in SIDES:
                selection = Selection(self._shards.texts(side), numbers)
                track = self._track(f"near-duplicates of {side}s")
                folder = self._scratch / side
                sides.append(
                    find_near_duplicates(selection, limits, ranks, folder, track, self._apply, known=self._known)
                )
            self._note_short_prompts(numbers, sides[SIDES.index("prompt")].classes < 0, limits.template)
        families = self._shards.facts("family")[numbers]
        if near.cosine is not None:
            pairs = self._alike_by_embedding(numbers, ranks, limits, near.cosine, embed)
            first, later = families[pairs].T
            pairs = pairs[(first == 0) | (first != later)]
        removed = duplicates.merge_classes(sides, pairs, ranks, families, self._is_rescued[numbers])
        places, twins = np.fromiter(removed, np.int64), np.fromiter(removed.values(), np.int64)
        self._refuse(Rule.ALIKE, numbers[places], numbers[twins])
        for column, likeness in enumerate(sides):
            self._similarities[numbers[places], column] = likeness.similarity(places, twins)

    def _note_short_prompts(self, numbers: Indices, is_short: NDArray[np.bool_], template: float) -> None:
        """Remember the prompts among `numbers` that are compared only for equality. A prompt in more than `template` texts is a template."""
        prompts = self._shards.facts("prompt")[numbers]
        _, places, counts = np.unique(prompts, return_inverse=True, return_counts=True)
        self._short_prompts[numbers] = np.where(is_short & (counts[places] <= template), prompts, 0)

    def _refuse_equal_prompts(self) -> None:
        """Refuse examples with the same short prompt as an example of a split with precedence. Within a split, a prompt may have many answers."""
        numbers = np.flatnonzero((self._rules == Rule.NONE) & (self._short_prompts != 0))
        prompts, ranks = self._short_prompts[numbers], self._ranks(numbers)
        order = np.lexsort((ranks, prompts))
        starts = np.append(True, np.diff(prompts[order]) != 0)[: len(order)]
        first = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
        is_leaked = ranks[order] > ranks[first]
        self._refuse(Rule.ALIKE, numbers[order][is_leaked], numbers[first][is_leaked])
        self._similarities[numbers[order][is_leaked], SIDES.index("prompt")] = 1

    def _ranks(self, numbers: Indices) -> NDArray[np.int8]:
        """Return the ranks of examples. Of two similar examples the one with the lower rank is kept; the benchmark has rank 0."""
        return np.where(numbers < self._first, np.int8(0), RANK_OF_SPLIT[self._splits[numbers]])

    def _alike_by_embedding(
        self, numbers: Indices, ranks: NDArray[np.int8], limits: Limits, cosine: float, embed: Embed
    ) -> Indices:
        """Return the pairs of indices into `numbers` whose responses have embeddings with at least this cosine.

        Embeddings are on disk, in the order of precedence.
        """
        places = compared_texts(Selection(self._shards.texts("response"), numbers), limits, self._apply)
        if not len(places):
            return np.zeros((0, 2), np.int64)
        order = np.argsort(ranks[places], kind="stable")
        rows = np.argsort(order)
        vectors: NDArray[np.float32] | None = None
        starts = range(0, len(places), EMBEDDED)
        for start in self._track("embeddings of responses")(starts, len(starts)):
            block = slice(start, start + EMBEDDED)
            embedded = embed(self._shards.responses(numbers[places[block]]))
            if vectors is None:
                shape = len(places), embedded.shape[1]
                vectors = np.lib.format.open_memmap(self._scratch / "embeddings.npy", "w+", np.float32, shape)
            vectors[rows[block]] = embedded
        assert vectors is not None
        return places[order][duplicates.cosine_pairs(vectors, cosine)]

    def _refuse_overlapping(self) -> None:
        """Refuse training examples that overlap an evaluation example, by prompt or response."""
        remaining = self._remaining()
        training = remaining[self._splits[remaining] == TRAIN]
        evaluation = np.concatenate([np.arange(self._first), remaining[self._splits[remaining] != TRAIN]])
        overlaps = find_overlaps(
            both_sides(self._shards, training),
            both_sides(self._shards, evaluation),
            self._config.contamination,
            self._scratch,
            self._track("contamination"),
            self._apply,
        )
        for place, other in overlaps.items():
            self._rules[training[place % len(training)]] = Rule.OVERLAPS
            self._twins[training[place % len(training)]] = evaluation[other % len(evaluation)]

    def _fill_emptied(self, drawn: SplitsOfGroups, numbers: Indices) -> SplitsOfGroups:
        """Give a split that the rules have emptied the smallest training group, if there are at least two, and refuse what overlaps it.

        `numbers` are the numbers of the examples whose splits were drawn.
        """
        for split, share in self._config.splits.held_out.items():
            code, remaining = SPLITS.index(split), self._remaining()
            splits = self._splits[remaining]
            training = drawn.groups_of_records[np.searchsorted(numbers, remaining[splits == TRAIN])]
            groups, sizes = np.unique(training, return_counts=True)
            if share and code not in splits and len(groups) > 1:
                chosen = int(groups[np.argmin(sizes)])
                drawn = drawn.moved(chosen, code)
                self._splits[numbers[drawn.groups_of_records == chosen]] = code
                self._refuse_equal_prompts()
                self._refuse_overlapping()
        return drawn

    def _local(self, numbers: Indices, places: slice) -> Indices:
        """Return the sorted `numbers` that lie in a shard, as row indices of the shard."""
        return numbers[np.searchsorted(numbers, places.start) : np.searchsorted(numbers, places.stop)] - places.start

    def _track(self, work: str) -> Track:
        """Return a function that shows progress under the name `work`."""

        def track(items: Iterable[Any], total: int) -> Iterator[Any]:
            return self._run.track(items, total=total, unit="block", status=lambda: work)

        return track


def both_sides(shards: Shards, numbers: Indices) -> Selection:
    """Return the prompts of these examples, followed by their responses."""
    return Selection(
        shards.texts("prompt") + shards.texts("response"), np.concatenate([numbers, numbers + len(shards)])
    )
