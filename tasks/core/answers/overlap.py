"""Checks `rouge` and `chrf`: how much of the reference's wording the answer shares, by the libraries that papers use.

Lin 2004, ROUGE, https://aclanthology.org/W04-1013 (package rouge-score, Google's reimplementation). Popović 2015, chrF,
https://aclanthology.org/W15-3049 (package sacrebleu). Both are in the extra `overlap`.
"""

import importlib
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from tasks.core.answers.base import PASSED, WRONG, AnswerCheck, Grade, Row, collapse
from tasks.core.records import Unfit
from tasks.core.text.ngrams import words


class Overlap(AnswerCheck):
    """A check by common wording; the score is 0 to 1."""

    graded: ClassVar[bool] = True

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        return reference if isinstance(reference, Unfit) else str(reference)

    def grade(self, answer: str, expected: Any) -> Grade:
        score = self._score(answer, expected)
        return Grade(score, PASSED if collapse(answer) == collapse(expected) else "overlap" if score else WRONG, answer)

    @abstractmethod
    def _score(self, answer: str, expected: str) -> float:
        """Return the share of the wording that both have in common, 0 to 1."""


class Rouge(Overlap):
    """The F-measure of ROUGE between answer and reference. Each sign of a script without spaces is a word."""

    kind: Literal["rouge"] = "rouge"
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    stem: bool = False
    """Compare word stems (Porter's, of English)."""

    def _score(self, answer: str, expected: str) -> float:
        tokenizer = Tokenizer(stem=self.stem)
        scorer = _library("rouge_score.rouge_scorer", "rouge-score").RougeScorer([self.variant], tokenizer=tokenizer)
        return float(scorer.score(expected, answer)[self.variant].fmeasure)


class Tokenizer:
    """Words of any script, where rouge-score's own tokenizer drops all letters but a to z. Texts in ASCII have the same tokens by both."""

    def __init__(self, *, stem: bool) -> None:
        self._english = _library("rouge_score.tokenizers", "rouge-score").DefaultTokenizer(stem)

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in lower case, those in ASCII as rouge-score writes them."""
        return [
            token
            for word in words(collapse(text))
            for token in (self._english.tokenize(word) if word.isascii() else [word])
        ]


class Chrf(Overlap):
    """chrF, an F-measure of character n-grams, divided by 100."""

    kind: Literal["chrf"] = "chrf"
    word_order: int = 0
    """2 is chrF++."""

    def _score(self, answer: str, expected: str) -> float:
        metric = _library("sacrebleu.metrics", "sacrebleu").CHRF(word_order=self.word_order)
        return float(metric.sentence_score(answer, [expected]).score) / 100


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ValueError(
            f'This check needs the package {package}: pip install "ratchet-llm[overlap]" -c constraints.txt'
        ) from None
