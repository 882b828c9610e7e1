"""Checks `rouge` and `chrf`: the overlap of the answer's wording with the reference, by the libraries that papers use.

Lin 2004, ROUGE, https://aclanthology.org/W04-1013 (package rouge-score, Google's reimplementation). Popović 2015, chrF,
https://aclanthology.org/W15-3049 (package sacrebleu). Both are in the extra `overlap`.
"""

import importlib
import re
import unicodedata
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from tasks.core.answers.base import PASSED, WRONG, AnswerCheck, Grade, Row, collapse
from tasks.core.records import Unfit
from tasks.core.text.words import PATTERN

MARKS = "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u0900-\u0963\u0966-\u096f\u0971-\u0df3"
"""Combining marks: vowel signs of Hebrew, Arabic and Indian scripts (with the letters between them in Unicode), and accents that have no composed letter."""
WORD = re.compile(rf"{PATTERN}(?:[^\W_]|[{MARKS}])*")


class Overlap(AnswerCheck):
    """A check by the overlap of wording. The score is 0 to 1."""

    graded: ClassVar[bool] = True

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        return reference if isinstance(reference, Unfit) else str(reference)

    def grade(self, answer: str, expected: Any) -> Grade:
        score = self._score(answer, expected)
        return Grade(score, PASSED if collapse(answer) == collapse(expected) else "overlap" if score else WRONG, answer)

    @abstractmethod
    def _score(self, answer: str, expected: str) -> float:
        """Return the overlap of the two texts, 0 to 1."""


class Rouge(Overlap):
    """The F-measure of ROUGE between answer and reference. In a script without spaces, each character is a word."""

    kind: Literal["rouge"] = "rouge"
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    stem: bool = False
    """Compare word stems, by Porter's algorithm for English."""

    def expect(self, row: Row) -> str | Unfit:
        reference = super().expect(row)
        if isinstance(reference, Unfit) or WORD.search(collapse(reference)):
            return reference
        return Unfit("nothing to compare", f"there is no word in {reference[:60]!r}")

    def _score(self, answer: str, expected: str) -> float:
        tokenizer = Tokenizer(stem=self.stem)
        scorer = _library("rouge_score.rouge_scorer", "rouge-score").RougeScorer([self.variant], tokenizer=tokenizer)
        return float(scorer.score(expected, answer)[self.variant].fmeasure)


class Tokenizer:
    """A tokenizer for words of any script. The one of rouge-score drops all letters except a to z. For ASCII text both return the same tokens."""

    def __init__(self, *, stem: bool) -> None:
        self._english = _library("rouge_score.tokenizers", "rouge-score").DefaultTokenizer(stem)

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in lower case. ASCII words are the same as those of rouge-score."""
        return [
            token
            for word in WORD.findall(collapse(text).casefold())
            for token in (self._english.tokenize(word) if word.isascii() else [word])
        ]


class Chrf(Overlap):
    """chrF, an F-measure of character n-grams, divided by 100."""

    kind: Literal["chrf"] = "chrf"
    word_order: int = 0
    """2 is chrF++."""

    def _score(self, answer: str, expected: str) -> float:
        metric = _library("sacrebleu.metrics", "sacrebleu").CHRF(word_order=self.word_order)
        answer, expected = (unicodedata.normalize("NFC", text) for text in (answer, expected))
        return float(metric.sentence_score(answer, [expected]).score) / 100


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ValueError(
            f'This check needs the package {package}: pip install "ratchet-llm[overlap]" -c constraints.txt'
        ) from None
