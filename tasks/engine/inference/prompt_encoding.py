"""What a model makes of a question before it is answered: the question's own tokens, with what was said before as context."""

from tasks.core.records import Example
from tasks.core.sequences import Encoded
from tasks.engine.encode import Tokenizer, is_plain, render_prompt


def question(row: Example, tokenizer: Tokenizer) -> Encoded | None:
    """The conversation up to where the assistant begins, as one sequence of which the last message is trained.

    None where it writes a control token of the model, or where less than two of its tokens could be scored.
    """
    if not is_plain(row.prompt, tokenizer):
        return None
    rendered, text = render_prompt(row.prompt, tokenizer), row.prompt[-1].content.strip()
    start = rendered.rindex(text)
    end = start + len(text)
    found = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    weights = [float(start < right and left < end) for left, right in found["offset_mapping"]]
    sequence = Encoded(row.id, found["input_ids"], weights, len(text.encode()), row.task)
    return sequence if sequence.num_trained > 1 else None
