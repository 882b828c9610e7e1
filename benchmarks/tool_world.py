"""Trajectories of a generated world of tools: `python benchmarks/tool_world.py params/tools-data`.

Eight tools with similar names compute prices. In a trajectory the user asks for one or two of them without using their names; the assistant
calls them, gets the results of the executed calls, and answers. One trajectory in ten asks for something that no tool can do.
"""

import argparse
import gzip
import json
import random
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRAJECTORIES, SEED = 400, 0
INTEGER = {"type": "integer"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "price_net": {"price": INTEGER, "rate": INTEGER},
    "price_gross": {"price": INTEGER, "rate": INTEGER},
    "price_tax": {"price": INTEGER, "rate": INTEGER},
    "price_off": {"price": INTEGER, "percent": INTEGER},
    "price_up": {"price": INTEGER, "percent": INTEGER},
    "price_each": {"total": INTEGER, "count": INTEGER},
    "price_all": {"price": INTEGER, "count": INTEGER},
    "price_in": {"price": INTEGER, "currency": {"type": "string", "enum": ["dollar", "pound", "yen", "franc"]}},
}
"""The arguments of each tool, in the order in which questions name them or not."""
WORDINGS = {
    "price_net": (
        "What is {a} without its tax of {b} percent?",
        "Take the {b} percent tax out of {a}.",
        "{a} has {b} percent tax in it. How much without?",
        "I paid {a}, tax of {b} percent in it. Leave the tax out.",
    ),
    "price_gross": (
        "What is {a} with {b} percent tax on it?",
        "Put {b} percent tax on {a}.",
        "{a} before tax of {b} percent. How much with it?",
        "The tag says {a}, tax of {b} percent comes on it. What do I pay?",
    ),
    "price_tax": (
        "How much tax is on {a} at {b} percent?",
        "The tax alone on {a}, at {b} percent?",
        "{b} percent tax: how much of it for {a}?",
        "What tax do I owe for {a} at {b} percent?",
    ),
    "price_off": (
        "{a}, now {b} percent cheaper. How much?",
        "Take {b} percent off {a}.",
        "A sale: {b} percent less on {a}. What is left?",
        "What is left of {a} after a cut of {b} percent?",
    ),
    "price_up": (
        "{a}, now {b} percent dearer. How much?",
        "Raise {a} by {b} percent.",
        "A rise: {b} percent more on {a}. What is it then?",
        "What is {a} after a rise of {b} percent?",
    ),
    "price_each": (
        "{b} pens are {a}. How much is one?",
        "I paid {a} for {b} cups. What was each?",
        "One of {b} at {a} together?",
        "Share {a} among {b} of us.",
    ),
    "price_all": (
        "One pen is {a}. How much are {b}?",
        "I take {b} cups at {a} each. What is it together?",
        "{b} at {a} each, together?",
        "What do {b} of us pay at {a} each?",
    ),
    "price_in": (
        "What is {a} in {b}?",
        "Change {a} to {b}.",
        "I pay in {b}. How much is {a}?",
        "{a}, but in {b} please.",
    ),
}
"""Questions by tool: `a` is the first argument, `b` the second."""
UNKNOWN = (
    "May I bring {a} of them back?",
    "Do you have {a} red ones?",
    "Are you open at {a} minutes past noon?",
    "Who made number {a}?",
)
"""Questions for which there is no tool."""


def main() -> None:
    """Write the trajectories into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of `tools.py`")
    folder = parser.parse_args().folder
    lines = "".join(json.dumps(row) + "\n" for row in trajectories(folder / "tools.py"))
    (folder / "trajectories.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


def schemas() -> list[dict[str, Any]]:
    """Return the tools in OpenAI's form."""
    return [
        {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", "properties": arguments, "required": list(arguments)}},
        }
        for name, arguments in ARGUMENTS.items()
    ]  # fmt: skip


def trajectories(tools: Path) -> Iterator[dict[str, Any]]:
    """Yield conversations with calls, each executed."""
    functions, draw, names = runpy.run_path(str(tools)), random.Random(SEED), sorted(ARGUMENTS)
    for number in range(TRAJECTORIES):
        turns: list[dict[str, Any]] = []
        if number % 10 == 9:
            question = draw.choice(UNKNOWN).format(a=draw.randrange(2, 60))
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "That I cannot tell."}]
        for place in range(2 if number % 5 == 0 else 0 if turns else 1):
            turns += asked(names[(number + 3 * place) % len(names)], functions, draw)
        yield {"messages": turns, "tools": schemas()}


def asked(tool: str, functions: dict[str, Any], draw: random.Random) -> list[dict[str, Any]]:
    """Return a question, the call, its result, and the answer."""
    question, arguments = drawn(tool, draw)
    result = functions[tool](**arguments)
    called = {"type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "content": result},
        {"role": "assistant", "content": f"It is {result}."},
    ]


def drawn(tool: str, draw: random.Random) -> tuple[str, dict[str, Any]]:
    """Return a question and the arguments of the call that it asks for."""
    first, second = ARGUMENTS[tool]
    a = draw.randrange(10, 1000)
    b = draw.choice(ARGUMENTS[tool][second]["enum"]) if "enum" in ARGUMENTS[tool][second] else draw.randrange(2, 60)
    return draw.choice(WORDINGS[tool]).format(a=a, b=b), {first: a, second: b}


if __name__ == "__main__":
    main()
