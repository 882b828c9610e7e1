"""Read conversations that are written as one text, with marks before their turns."""

import re
from typing import NamedTuple

from tasks.stages.ingest.reading.rows.turns import ROLES, merged


class Marks(NamedTuple):
    """The marks of a format of transcripts."""

    turn: re.Pattern[str]
    """Matches the mark before a turn, which names its speaker."""
    has_preamble: bool = True
    """True if the format allows a text before the first turn. It becomes the system message."""


FORMATS = (
    Marks(re.compile(r"(?:\A|\n\n)(Human|Assistant):"), has_preamble=False),  # Anthropic's hh-rlhf
    Marks(re.compile(r"<\|im_start\|>(\w+)\n")),  # ChatML
    Marks(re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>")),  # Llama 3
    Marks(re.compile(r"<\|(system|user|assistant)\|>\n?")),  # Zephyr, Phi 3
    Marks(re.compile(r"<start_of_turn>(user|model)\n")),  # Gemma
    Marks(re.compile(r"\[\|(Human|AI)\|\]")),  # Baize
    Marks(re.compile(r"### *(System|Human|User|Instruction|Input|Assistant|Response|GPT|Output): *")),  # Guanaco, Alpaca
)  # fmt: skip
SECTIONS = {"instruction": "user", "input": "user", "response": "assistant", "output": "assistant"}
"""Names of turns that are not speakers → role."""
ENDS = re.compile(r"<\|im_end\|>|<\|eot_id\|>|<\|end\|>|<\|endoftext\|>|<\|begin_of_text\|>|<end_of_turn>|<bos>|</?s>")
"""Matches tokens that end a turn or begin a text."""


def transcript(text: str) -> list[dict[str, str]] | None:
    """Return the turns of a transcript up to its last answer; None if the text is not a transcript.

    Consecutive turns of one speaker are joined.
    """
    return next((turns for marks in FORMATS if (turns := _turns(text, marks)) is not None), None)


def _turns(text: str, marks: Marks) -> list[dict[str, str]] | None:
    before, *parts = marks.turn.split(text)
    preamble = ENDS.sub("", before).strip()
    if len(parts) < 4 or (preamble and not marks.has_preamble):
        return None
    turns = [{"role": "system", "content": preamble}] if preamble else []
    for name, said in zip(parts[::2], parts[1::2], strict=True):
        role = SECTIONS.get(name.lower()) or ROLES.get(name.lower(), name)
        turns.append({"role": role, "content": ENDS.sub("", said).strip()})
    turns = merged(turns, "\n\n")
    while turns and (turns[-1]["role"] != "assistant" or not turns[-1]["content"]):
        turns.pop()
    return turns or None
