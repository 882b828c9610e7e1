"""Questions about generated telecom networks with computed answers: `python benchmarks/telecom_questions.py`.

Writes the data of profile `telecom-qlora` to params/telecom-data/: `figures.jsonl`, whose answers are numbers, and `explanations.jsonl`, whose
answers say how the number comes about. A row has a use case, and the network that it is about, by which splits are made: no two splits
share a network. Everything is computed from what the question says.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "params/telecom-data"
FIGURES, EXPLANATIONS, SEED = 60, 30, 0
"""Networks of each file."""
SYLLABLES = ("al", "bor", "cen", "dun", "el", "far", "gol", "hel", "iv", "kar", "lun", "mar", "nor", "or", "pel", "ros")
Made = tuple[str, str, str]
"""A question, its answer as a number, and in words."""


def addressing(draw: random.Random) -> Made:
    """Ask for the usable addresses of a subnet."""
    prefix = draw.randint(20, 30)
    bits = 32 - prefix
    hosts = 2**bits - 2
    return (
        f"How many hosts can a /{prefix} subnet address?",
        str(hosts),
        f"A /{prefix} prefix leaves {bits} bits for hosts. Two addresses are reserved, so there are 2^{bits} - 2 = {hosts} hosts.",
    )


def routing(draw: random.Random) -> Made:
    """Ask for the cost of a path."""
    links = [draw.choice((10, 50, 100, 500, 1000)) for _ in range(draw.randint(2, 3))]
    costs = [1000 // link for link in links]
    shown, added = " and ".join(f"{link} Mbit/s" for link in links), " + ".join(map(str, costs))
    return (
        f"The OSPF reference bandwidth is 1000 Mbit/s. What does a path over links of {shown} cost?",
        str(sum(costs)),
        f"A link costs the reference bandwidth divided by its own. The costs are {added} = {sum(costs)}.",
    )


def transport(draw: random.Random) -> Made:
    """Ask for a bandwidth-delay product."""
    rate, delay = draw.choice((8, 16, 40, 80, 100, 400)), draw.choice((10, 20, 30, 50, 80, 100))
    kilobytes = rate * delay // 8
    return (
        f"A path carries {rate} Mbit/s at a round trip of {delay} ms. How many kilobytes must the TCP window hold?",
        str(kilobytes),
        f"The window must hold the rate times the round trip: {rate} Mbit/s * {delay} ms / 8 = {kilobytes} kilobytes.",
    )


def radio(draw: random.Random) -> Made:
    """Ask for a received power."""
    power, gain, loss = draw.randint(20, 46), draw.randint(3, 18), draw.randint(80, 130)
    received = power + gain - loss
    return (
        f"A cell sends {power} dBm over an antenna of {gain} dBi, and the path loses {loss} dB. What is received, in dBm?",
        str(received),
        f"Powers and gains in decibels add up, losses are taken away: {power} + {gain} - {loss} = {received} dBm.",
    )


def traffic(draw: random.Random) -> Made:
    """Ask for offered traffic."""
    erlangs, hold = draw.randint(2, 40), draw.choice((60, 90, 120, 180))
    calls = erlangs * 3600 // hold
    return (
        f"A trunk group has {calls} calls an hour of {hold} seconds each. How many erlangs are offered?",
        str(erlangs),
        f"Offered traffic is calls times holding time over an hour: {calls} * {hold} / 3600 = {erlangs} erlangs.",
    )


def numerology(draw: random.Random) -> Made:
    """Ask for the slots of a frame."""
    order = draw.randint(0, 4)
    spacing, slots = 15 * 2**order, 10 * 2**order
    return (
        f"How many slots has a 5G frame of 10 ms at a subcarrier spacing of {spacing} kHz?",
        str(slots),
        f"A spacing of {spacing} kHz is numerology {order}, with 2^{order} slots a millisecond, so {slots} slots in a frame.",
    )


def security(draw: random.Random) -> Made:
    """Ask for the reach of a rule."""
    prefix = draw.randint(22, 30)
    matched = 2 ** (32 - prefix)
    return (
        f"An access list matches the prefix /{prefix}. How many addresses does the rule match?",
        str(matched),
        f"The wildcard of /{prefix} leaves {32 - prefix} bits free, so the rule matches 2^{32 - prefix} = {matched} addresses.",
    )


def availability(draw: random.Random) -> Made:
    """Ask for an outage."""
    sites, minutes = draw.randint(2, 30), draw.choice((5, 10, 15, 20, 45))
    return (
        f"Each of {sites} sites was down for {minutes} minutes this month. How many minutes of outage is that in all?",
        str(sites * minutes),
        f"Outages of sites add up: {sites} sites * {minutes} minutes = {sites * minutes} minutes.",
    )


USE_CASES: dict[str, Callable[[random.Random], Made]] = {
    "5g numerology": numerology,
    "availability": availability,
    "ip addressing": addressing,
    "radio planning": radio,
    "routing": routing,
    "security": security,
    "traffic engineering": traffic,
    "transport": transport,
}


def rows(networks: range, explained: bool) -> Iterator[dict[str, str]]:
    """Yield a question of each use case about each network."""
    for number in networks:
        draw = random.Random(f"{SEED} {number}")
        name = "".join(draw.choice(SYLLABLES) for _ in range(3)).title()
        for use_case, make in USE_CASES.items():
            question, figure, words = make(draw)
            ask = "Explain how it comes about." if explained else "Answer with the number alone."
            yield {
                "use_case": use_case,
                "document": f"network {name} {number}",
                "source": "twin",
                "question": f"Network {name}. {question} {ask}",
                "answer": words if explained else figure,
            }


def files() -> dict[str, str]:
    """Return the contents of each file."""
    made = {
        "figures.jsonl": rows(range(FIGURES), explained=False),
        "explanations.jsonl": rows(range(FIGURES, FIGURES + EXPLANATIONS), explained=True),
    }
    return {name: "".join(json.dumps(row) + "\n" for row in each) for name, each in made.items()}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
