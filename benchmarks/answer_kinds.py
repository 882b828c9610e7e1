"""Data of each kind that people bring, on SmolLM2-135M-Instruct: what `ratchet init FILE` and `ratchet run` end in.

Rows are made here from a seed: word problems in GSM8K's form, multiple choice, labels, JSON, conversations of several turns, and
preference pairs. They are easy to learn on purpose. So the figures show that each kind is trained and measured from the file to the
report, and not that a model of this size can do it on harder data.

    python benchmarks/answer_kinds.py                       questions of five kinds in one workspace, one LoRA
    python benchmarks/answer_kinds.py --preferences orpo    preference pairs, by dpo, orpo, simpo or kto

What is printed ends with the report: each measure of the base and of the tuned model with its interval, and the paired difference.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import workspaces
import yaml

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, object]
NAMES = ("Ann", "Ben", "Carla", "Dev", "Emil", "Fatma", "Goran", "Hana", "Ivo", "Jun")
THINGS = ("pencils", "apples", "stamps", "cards", "shells", "tickets", "buttons", "plates")
LENGTHS = {"mm": 0.001, "cm": 0.01, "m": 1.0, "km": 1000.0}
COMPLAINTS = {
    "billing": ("I was charged twice for order {n}", "The invoice {n} shows a wrong amount", "My refund of {n} euros has not come"),
    "delivery": ("Parcel {n} has not arrived", "The courier left order {n} with a neighbour", "Order {n} went to my old address"),
    "account": ("I cannot log in since {n} days", "The code {n} that you sent does not work", "Please change the e-mail of user {n}"),
    "product": ("The lamp of order {n} arrived broken", "Part {n} is missing in the box", "Model {n} does not switch on"),
}  # fmt: skip
MOODS = ("", "Hello, ", "Please help: ", "Third message today. ", "Dear team, ")
DRINKS, SIZES = ("tea", "coffee", "juice", "water"), ("small", "large")


def number(draw: random.Random) -> Row:
    """Return a word problem of two steps in GSM8K's form."""
    boxes, each, given = draw.randint(2, 9), draw.randint(2, 9), draw.randint(1, 3)
    name, thing = draw.choice(NAMES), draw.choice(THINGS)
    total = boxes * each
    return {
        "question": f"{name} has {boxes} boxes with {each} {thing} in each and gives {given} away. How many {thing} are left?",
        "answer": f"{boxes} x {each} = <<{boxes}*{each}={total}>>{total}. {total} - {given} = <<{total}-{given}={total - given}>>"
        f"{total - given}.\n#### {total - given}",
    }


def choice(draw: random.Random) -> Row:
    """Return a question with four options, of which the longest length is right."""
    options: dict[str, float] = {}
    while len(options) < 4:
        unit = draw.choice([*LENGTHS])
        count = draw.randint(2, 900)
        if count * LENGTHS[unit] not in options.values():
            options[f"{count} {unit}"] = count * LENGTHS[unit]
    names = [*options]
    question = f"{draw.choice(NAMES)} compares four ropes. Which one is the longest?"
    return {"question": question, "choices": names, "answer": max(range(4), key=lambda place: options[names[place]])}


def label(draw: random.Random) -> Row:
    """Return a customer's message and its topic."""
    topic = draw.choice([*COMPLAINTS])
    message = draw.choice(MOODS) + draw.choice(COMPLAINTS[topic]).format(n=draw.randint(2, 9999)) + "."
    return {"prompt": f"What is this message about? {message}", "completion": topic}


def order(draw: random.Random) -> Row:
    """Return an order in words and the same as JSON."""
    count, size, drink, table = draw.randint(1, 6), draw.choice(SIZES), draw.choice(DRINKS), draw.randint(1, 30)
    text = f"{draw.choice(NAMES)} at table {table} would like {count} {size} {drink}."
    fields = {"drink": drink, "size": size, "count": count, "table": table}
    return {"instruction": f"Write the order as JSON. {text}", "output": json.dumps(fields)}


def conversation(draw: random.Random) -> Row:
    """Return a conversation of three turns that keeps a sum."""
    total = draw.randint(1, 20)
    turns = [
        ("user", f"{draw.choice(NAMES)} keeps score. Start with {total}."),
        ("assistant", f"The score is {total}."),
    ]
    for _ in range(2):
        more = draw.randint(1, 9)
        total += more
        turns += [("user", f"Add {more}."), ("assistant", f"The score is {total}.")]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def preference(draw: random.Random) -> Row:
    """Return a question with a short answer that is preferred to a long one."""
    first, second = draw.randint(1, 50), draw.randint(1, 50)
    asker = draw.choice(NAMES)
    return {
        "prompt": f"{asker} asks: what is {first} plus {second}?",
        "chosen": f"{first + second}",
        "rejected": f"That is a very good question, {asker}! Let me think about {first} and {second}. It is {first + second}.",
    }


QUESTIONS = {"numbers": number, "choices": choice, "labels": label, "orders": order, "conversations": conversation}
PREFERENCES = {"preferences": preference}
RATES = {"dpo": 0.0001, "orpo": 0.0005, "simpo": 0.0001, "kto": 0.0001}
"""Learning rates of objectives on preferences: `orpo` fine-tunes too."""


def write(path: Path, make: Callable[[random.Random], Row], rows: int) -> None:
    """Write different rows as JSON Lines. The name of the file is the seed."""
    draw, lines = random.Random(path.stem), {}
    while len(lines) < rows:
        lines[json.dumps(make(draw))] = None
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def run(folder: Path, *command: str) -> None:
    """Run a command of Ratchet in a workspace as a user would; what it prints appears here."""
    environment = workspaces.environment(folder)
    subprocess.run([sys.executable, "-m", "flows.commands", *command], cwd=folder, env=environment, check=True)


def take_in(folder: Path, kinds: Mapping[str, Callable[[random.Random], Row]], rows: int) -> None:
    """Write a file of each kind, and have `ratchet init` add it to the sources, with the check that it proposes."""
    params, sources = folder / "params.yaml", []
    for name, make in kinds.items():
        file = folder / f"data/raw/{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, make, rows)
        run(folder, "init", file.relative_to(folder).as_posix(), "--yes")
        sources += yaml.safe_load(params.read_text(encoding="utf-8"))["ingest"]["sources"]
    config = yaml.safe_load(params.read_text(encoding="utf-8"))
    config["ingest"]["sources"] = sources
    params.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def set_up(folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Change the profile: one training of one thread, measured on three tenths of the rows."""
    params = folder / "params.yaml"
    config = yaml.safe_load(params.read_text(encoding="utf-8"))
    config["compute"]["threads"] = 1
    config["fetch"]["embedder"] = None
    config["ingest"]["near_duplicates"] = {"jaccard": None, "cosine": None}  # rows of one template are alike by nature
    config["ingest"]["splits"] = {"valid": 0.1, "test": 0.3}
    config["tune"] |= {"max_tokens": 80_000, "pack_tokens": 512}
    config["evaluate"] |= {"domain_tokens": 4000, "text_tokens": 2000, "answer_items": 60, "max_new_tokens": 80}
    config["evaluate"] |= {"pass_items": 0, "batch_size": 32}
    config["rounds"], config["turns"] = {"r0": {}}, {}
    config["models"] = {name: config["models"][name] for name in ("base", "r0")}
    for section, values in changes.items():
        config[section] |= values
    params.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def by(objective: str) -> dict[str, dict[str, Any]]:
    """Return the settings of a training by an objective on preferences."""
    rate = {"learning_rate": RATES[objective]}
    return {"tune": {"objective": objective}, "methods": {objective: {}, "adamw": rate}}


def main() -> None:
    """Write the files, import them, and run. The output of `ratchet run` ends with the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preferences", choices=[*RATES], help="train preference pairs by it, in place of questions")
    parser.add_argument("--rows", type=int, default=100, help="of each file (100)")
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="answer-kinds-")) / "workspace"
    workspaces.copied(ROOT, "workstation", folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    take_in(folder, PREFERENCES if options.preferences else QUESTIONS, options.rows)
    set_up(folder, by(options.preferences) if options.preferences else {})
    run(folder, "run")
    print(f"The workspace: {folder}")


if __name__ == "__main__":
    main()
