"""Words of texts, and the form in which texts are compared."""

import html
import re
import unicodedata

PATTERN = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uff66-\uff9d]|[^\W_]+"
"""One word. In scripts without spaces (Thai, Lao, Burmese, Khmer, kana, Chinese), each character is a word. An underscore separates words."""

INLINE_TAG = re.compile(r"</?(?:b|code|em|i|kbd|mark|s|small|span|strong|sub|sup|tt|u|wbr)\s*/?>", re.IGNORECASE)
BLOCK_TAG = re.compile(r"</?(?:blockquote|br|div|h[1-6]|li|ol|p|pre|td|th|tr|ul)\s*/?>", re.IGNORECASE)
"""Formatting tags without attributes: those with attributes may be all that a text of code differs in."""
BROKEN_WORD = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]\n[ \t]*(?=[^\W\d_])")
UNSEEN = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]+")
"""Invisible characters: zero-width spaces and joiners, soft hyphens, direction marks, variation selectors."""
ACCENT = re.compile("[¨¯´¸˘-˝\u037a\u0384\u0385\u1fbd-\u1fc1\u1fcd-\u1fcf\u1fdd-\u1fdf\u1fed-\u1fef\u1ffd\u1ffe]")
"""Spacing accents, such as one typed as an apostrophe. NFKC would turn them into a space and a combining mark, which would count as a word."""


def normalised(text: str) -> str:
    """Return the text in a form in which copies from a web page, a PDF or another keyboard have the same words.

    HTML entities become characters, formatting tags are removed, and words that are hyphenated at the end of a line are joined. Beyond
    ASCII, invisible characters are removed, and full-width letters and ligatures become plain letters (NFKC).
    """
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = BLOCK_TAG.sub(" ", INLINE_TAG.sub("", text))
    if "-\n" in text or (not text.isascii() and ("\u00ad\n" in text or "\u2010\n" in text)):
        text = BROKEN_WORD.sub("", text)
    if text.isascii():
        return text
    # Most texts are in NFKC apart from these two characters, and the check for it is fast.
    text = text.replace("\xa0", " ").replace("…", " ")
    # Of the invisible characters, only variation selectors count as printable.
    if not text.replace("\n", " ").isprintable() or "\ufe0f" in text:
        text = UNSEEN.sub("", text)
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", ACCENT.sub(" ", text))
