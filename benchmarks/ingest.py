"""Rows per CPU-second and peak memory of stage `ingest`: `python benchmarks/ingest.py [--rows 100000] [--folder DIR]`.

A file of question/answer rows of some 60 words each is made: one in ten is an exact copy of an earlier row, one in twenty a near
copy (two words of the answer changed). Stage `ingest` reads, normalises, merges exact and near duplicates, looks for contamination,
splits and writes, in a process of its own. The rows that it keeps are counted against those that were planted.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WORDS = 20_000
COPIES, NEAR = 0.10, 0.05


def make(rows: int, path: Path) -> int:
    """Write the rows and return how many of them are copies of no other."""
    draw = random.Random(0)
    vocabulary = [f"{draw.choice('bdfgklmnprst')}{draw.choice('aeiou')}{number:x}" for number in range(WORDS)]
    originals: list[tuple[str, str]] = []
    different = 0
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            kind = draw.random()
            if originals and kind < COPIES + NEAR:
                question, answer = draw.choice(originals)
                if kind >= COPIES:
                    words = answer.split()
                    for place in draw.sample(range(len(words)), 2):
                        words[place] = draw.choice(vocabulary)
                    answer = " ".join(words)
            else:
                question = " ".join(draw.choices(vocabulary, k=15))
                answer = " ".join(draw.choices(vocabulary, k=45))
                different += 1
                if len(originals) < 100_000:
                    originals.append((question, answer))
            file.write(json.dumps({"question": question, "answer": answer}) + "\n")
    return different


STAGE = """
import json, sys
from pathlib import Path
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import StageConfig
from tests.support import ScratchRun

folder, path = Path(sys.argv[1]), sys.argv[2]
config = StageConfig.model_validate({
    "compute": {"threads": 1},
    "ingest": {"sources": [{"from": "file", "path": path}], "near_duplicates": {"cosine": None}},
})
outputs = {"ingested": folder / "ingested", "examples": folder / "examples.parquet"}
outputs["ingested"].mkdir()
stage.main({"embedder": folder, "raw": folder}, outputs, config, ScratchRun(folder))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the file of rows is made, and kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rows-{options.rows}.jsonl"
        different = make(options.rows, path)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder) as outputs:
            subprocess.run([sys.executable, "-c", STAGE, outputs, str(path)], cwd=ROOT, check=True)
            report = json.loads((Path(outputs) / "ingested/report.json").read_text())
        wall_s = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = usage.ru_utime + usage.ru_stime
    kept = sum(split["examples"] for split in report["splits"].values())
    print(f"{options.rows:,} rows: {options.rows / cpu_s:,.0f} rows per CPU-second, {options.rows / wall_s:,.0f} rows/s, "
          f"peak {usage.ru_maxrss / 2**20:.2f} GiB; kept {kept:,}, of which {different:,} are no copies")  # fmt: skip


if __name__ == "__main__":
    main()
