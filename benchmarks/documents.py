"""Memory and time of stage `ingest` on a folder of texts: `python benchmarks/documents.py [--documents 1000 4000] [--code DIR]`.

A folder of pages of HTML of some 30 kB each is made, every tenth a near copy of an earlier one, and ingested as a corpus, each time
in a process of its own; then once more, unchanged. Memory is anonymous memory (`RssAnon`), sampled ten times a second. `--code`
names another checkout of this project whose stage is measured.
"""

import argparse
import random
import tempfile
from pathlib import Path

import ingest  # beside this file

WORDS = 20_000
STAGE = """
import os, sys
from pathlib import Path
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import StageConfig
from tests.support import ScratchRun

folder, path = Path(sys.argv[1]), sys.argv[2]
corpora = {"domain": [{"from": "folder", "path": path}], "max_chars": 10**12}
near = {"cosine": None}
config = StageConfig.model_validate({"compute": {"threads": 1}, "ingest": {"corpora": corpora, "near_duplicates": near}})
outputs = {"ingested": folder / "out/ingested", "examples": folder / "out/examples.parquet"}
outputs["ingested"].mkdir(parents=True, exist_ok=True)
stage.main({"embedder": folder, "raw": folder, "decisions": Path(os.devnull)}, outputs, config, ScratchRun(folder))
"""


def write(folder: Path, number: int) -> None:
    """Write so many pages."""
    draw = random.Random(0)
    vocabulary = [f"{draw.choice('bdfgklmnprst')}{draw.choice('aeiou')}{word:x}" for word in range(WORDS)]
    words: list[str] = []
    for page in range(number):
        words = draw.choices(vocabulary, k=4_000) if page % 10 or not page else [*words[1:], "copied"]
        paragraphs = "".join(f"<p>{' '.join(words[start : start + 80])}</p>\n" for start in range(0, len(words), 80))
        menu = "<nav>Menu</nav><p>The manual of everything</p>"
        path = folder / f"{page // 100:03d}" / f"{page:06d}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<!doctype html><html><body>{menu}\n{paragraphs}</body></html>")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000, 4_000])
    parser.add_argument("--code", type=Path, default=ingest.ROOT)
    options = parser.parse_args()
    for number in options.documents:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "pages"
            folder.mkdir()
            write(folder, number)
            for time in ("first", "again"):
                cost = ingest.run(STAGE, [name, str(folder)], options.code)
                print(
                    f"{number:,} pages, {time}: {cost.cpu_s:,.1f} CPU-seconds, peak {cost.peak_gb * 1024:,.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
