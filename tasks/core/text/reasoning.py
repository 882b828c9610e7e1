"""Reasoning before an answer, in the tags of DeepSeek-R1, Qwen3 and their successors."""

START, END = "<think>", "</think>"


def reasoned(reasoning: str, answer: str) -> str:
    """Return reasoning and answer as one text, in the form of these models."""
    return f"{START}\n{reasoning}\n{END}\n\n{answer}"


def answer_start(text: str) -> int:
    """Return the position at which the answer begins after its reasoning: 0 without reasoning, the end of the text if the reasoning has no end.

    The opening tag may be missing, because many templates put it at the end of the prompt.
    """
    end = text.rfind(END)
    if end < 0:
        return len(text) if text.lstrip().startswith(START) else 0
    answer = text[end + len(END) :]
    return len(text) - len(answer.lstrip())


def answer_of(text: str) -> str:
    """Return the text of a model without its reasoning."""
    return text[answer_start(text) :]
