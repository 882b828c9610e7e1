"""Memory and time of near-duplicates by embeddings: `python benchmarks/embeddings.py [--vectors 10000 20000 40000]`.

Unit vectors of width 384 lie on disk, one in twenty a near copy of an earlier one (cosine above 0.99). Stage `ingest` compares them a
block with a block, in a process of its own. Prints the anonymous memory of the process (`RssAnon`), and if exactly the
planted copies were found.
"""

import argparse
import tempfile
from pathlib import Path

import ingest  # beside this file
import numpy as np

WIDTH = 384
SHARE, COSINE = 0.05, 0.95
COMPARE = """
import sys
import numpy as np
from tasks.stages.ingest.filtering.duplicates import cosine_pairs

vectors = np.load(sys.argv[1], mmap_mode="r")
np.save(sys.argv[2], cosine_pairs(vectors, float(sys.argv[3])))
"""


def write(path: Path, number: int) -> set[tuple[int, int]]:
    """Write vectors and return the pairs that were planted."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(number, WIDTH)).astype(np.float32)
    copies = draw.choice(np.arange(number // 2, number), int(number * SHARE), replace=False)
    originals = draw.choice(number // 2, len(copies), replace=False)
    vectors[copies] = vectors[originals] + 0.01 * vectors[copies]
    np.save(path, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return set(zip(originals.tolist(), copies.tolist(), strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, nargs="+", default=[10_000, 20_000, 40_000])
    for number in parser.parse_args().vectors:
        with tempfile.TemporaryDirectory() as name:
            path, out = Path(name) / "vectors.npy", Path(name) / "pairs.npy"
            planted = write(path, number)
            cost = ingest.run(COMPARE, [str(path), str(out), str(COSINE)])
            pairs = {(first, later) for first, later in np.load(out).tolist()}
            print(
                f"{number:,} vectors: {cost.cpu_s:,.1f} CPU-seconds, peak {cost.peak_gb * 1024:,.0f} MiB; "
                f"{len(pairs & planted):,} of {len(planted):,} planted pairs, {len(pairs - planted)} others",
                flush=True,
            )


if __name__ == "__main__":
    main()
