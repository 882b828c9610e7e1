"""Tokens per second of generation, compared with `transformers.generate`: `python benchmarks/generation.py [--rounds 3]`.

Needs a workspace whose `fetch` has run. Greedy responses to prompts of mixed lengths, paragraphs of this documentation: by the engine at
`--batch-size`, and by `generate` at each of `--batch-sizes`, whose batches are sorted by length too, so that they pad little. Sides take turns
in one process on `--threads` threads. Printed: tokens per second of CPU time (of wall time on a GPU), the ratio of the engine to each side, paired by round,
and how many responses are the same.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.core.records import Message  # noqa: E402

Written = tuple[list[str], int]
"""Responses, and the number of their tokens."""


def main() -> None:
    """Run all sides in turn and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96, help="of a response at most")
    parser.add_argument("--batch-size", type=int, default=32, help="of the engine")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[1, 4, 8, 16, 32], help="of generate")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    from tasks.core.compute import Compute
    from tasks.engine import device
    from tasks.io.weights import checkpoints

    compute = Compute(precision=options.precision, threads=options.threads)
    device.use(compute)
    model, tokenizer = checkpoints.load(options.model, None, **device.placement(compute))
    asked = prompts(options.prompts)
    sides: dict[str, Callable[[], Written]] = {
        f"engine, batch {options.batch_size}": lambda: by_engine(model, tokenizer, asked, options)
    }
    for size in options.batch_sizes:
        sides[f"generate, batch {size}"] = lambda size=size: by_generate(model, tokenizer, asked, size, options.tokens)
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    rates: dict[str, list[float]] = {side: [] for side in sides}
    texts: dict[str, list[str]] = {}
    for number in range(options.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            start = clock()
            texts[side], tokens = sides[side]()
            rates[side].append(tokens / (clock() - start))
            print(f"round {number + 1}, {side}: {rates[side][-1]:.1f} tokens/s of {tokens}", flush=True)
    report(rates, texts)


def prompts(count: int) -> list[list[Message]]:
    """Return questions about paragraphs of the documentation, from short to long, in random order."""
    pages = sorted((ROOT / "docs/pages").rglob("*.md"))
    paragraphs = [text.strip() for page in pages for text in page.read_text(encoding="utf-8").split("\n\n")]
    usable = sorted({text for text in paragraphs if 20 <= len(text) <= 600 and text[0].isalpha()}, key=len)
    chosen = [usable[index * len(usable) // count] for index in range(count)]
    random.Random(0).shuffle(chosen)
    return [[Message("user", f"Say in other words: {text}")] for text in chosen]


def by_engine(model: Any, tokenizer: Any, asked: Sequence[Sequence[Message]], options: argparse.Namespace) -> Written:
    """Generate with the engine. Every row of every forward pass gives one token of a response, since ended rows leave the batch."""
    from tasks.engine.inference import generation

    rows = 0

    def count(_: Any, __: Any, output: Any) -> None:
        nonlocal rows
        rows += len(output.logits)

    hook = model.register_forward_hook(count)
    texts = generation.write(model, asked, tokenizer, max_new_tokens=options.tokens, batch_size=options.batch_size)
    hook.remove()
    return texts, rows


def by_generate(
    model: Any, tokenizer: Any, asked: Sequence[Sequence[Message]], batch_size: int, max_new_tokens: int
) -> Written:
    """Generate with `transformers.generate` in batches sorted by length."""
    from tasks.engine.chat_template import render_prompt

    model.set_attn_implementation("sdpa")
    tokenizer.padding_side = "left"
    rendered = [render_prompt(prompt, tokenizer) for prompt in asked]
    order = sorted(range(len(rendered)), key=lambda index: len(rendered[index]))
    texts, tokens = [""] * len(rendered), 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        inputs = tokenizer(
            [rendered[i] for i in batch], add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(model.device)
        outputs = model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        for index, row in zip(batch, outputs[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            texts[index], tokens = tokenizer.decode(row[:end], skip_special_tokens=True), tokens + end
    return texts, tokens


def report(rates: dict[str, list[float]], texts: dict[str, list[str]]) -> None:
    """Print a line for each side of `generate`: ratios, their range, and equal responses."""
    engine, *others = rates
    print(f"\n{engine}: {statistics.median(rates[engine]):.1f} tokens/s\n")
    print(f"{'':<22} {'tokens/s':>9} {'engine / side':>22} {'same responses':>15}")
    for side in others:
        ratios = sorted(ours / theirs for ours, theirs in zip(rates[engine], rates[side], strict=True))
        shown = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        same = sum(ours == theirs for ours, theirs in zip(texts[engine], texts[side], strict=True))
        print(f"{side:<22} {statistics.median(rates[side]):>9.1f} {shown:>22} {same:>8} of {len(texts[side])}")


if __name__ == "__main__":
    main()
