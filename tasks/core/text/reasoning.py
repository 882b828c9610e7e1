"""Reasoning that stands before an answer, in the tags of DeepSeek-R1, Qwen3 and their successors."""

START, END = "<think>", "</think>"


def reasoned(reasoning: str, answer: str) -> str:
    """Return the reasoning and the answer as these models write them."""
    return f"{START}\n{reasoning}\n{END}\n\n{answer}"


def answer_start(text: str) -> int:
    """Return the place where the answer begins behind its reasoning: 0 without any, the end of the text if the reasoning has no end.

    The tag that opens it may be missing: many templates end the prompt with it.
    """
    end = text.rfind(END)
    if end < 0:
        return len(text) if text.lstrip().startswith(START) else 0
    answer = text[end + len(END) :]
    return len(text) - len(answer.lstrip())


def answer_of(text: str) -> str:
    """Return what a model wrote without its reasoning."""
    return text[answer_start(text) :]
