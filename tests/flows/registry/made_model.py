"""A workspace with one promoted model, written without training: real records, real hashes, and weights of a few bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from flows.execution.dvc import lock_file, lock_graph
from tasks.core.records import Document, Example
from tasks.io import tables
from tasks.io.weights import checkpoints
from tests.flows.registry.test_promotion import Nights
from tests.tiny import example

SOURCE = {"from": "hub", "id": "maker/small-base", "revision": "0123abc", "license": "apache-2.0"}
REPORT = {
    "comparisons": {
        "r0": {
            "rows": [
                {
                    "measure": "domain", "part": "", "unit": "nats/token", "items": 8,
                    "before": {"value": 2.0, "low": 1.9, "high": 2.1},
                    "after": {"value": 1.5, "low": 1.4, "high": 1.6},
                    "difference": {"value": -0.5, "low": -0.6, "high": -0.4},
                }
            ]
        }
    }
}  # fmt: skip
READS = {
    "fetch": [],
    "ingest": ["data/raw"],
    "pretrain": ["models/base", "data/ingested/train_documents.parquet"],
    "tune@r0": ["models/pretrained", "data/rounds/r0/examples.parquet", "code.py"],
    "evaluate@r0": ["models/tuned/r0", "data/ingested/test.parquet", "data/ingested/gate.parquet"],
}
WRITES = {
    "fetch": ["models/base"],
    "ingest": ["data/ingested", "data/rounds/r0/examples.parquet"],
    "pretrain": ["models/pretrained"],
    "tune@r0": ["models/tuned/r0"],
    "evaluate@r0": ["data/gate/r0.parquet"],
}
PARAMS = {
    "ingest": {
        "ingest": {
            "seed": 0,
            "sources": [{"from": "file", "path": "data/raw/rows.jsonl"}],
            "exclude": ["file gone.jsonl"],
        }
    },
    "tune@r0": {"tune": {"adapter": "lora", "seed": 0}},
}


class MadeModel(Nights):
    """The workspace. Edit its files before `lock` and `register` if they should differ from the default."""

    def __init__(self, folder: Path, license: str = "MIT") -> None:
        super().__init__(folder)
        self.measure("r0", 1.5, 3.0, seed=1)
        self.model("models/base", 1.0, source=SOURCE)
        self.model("models/pretrained", 1.0, source=SOURCE)
        self.model("models/tuned/r0", 2.0, parent=checkpoints.read_card(folder / "models/pretrained")["weights"])
        checkpoints.write_adapter_note(folder / "models/tuned/r0", "lora", {})
        self.examples("data/rounds/r0/examples.parquet", "train", license)
        for number, split in enumerate(("valid", "test", "gate"), 1):
            self.examples(f"data/ingested/{split}.parquet", split, license, 10 * number)
        texts = [Document(f"d{n}", "A text.", "domain", f"g{n}", "train", "a.md", "CC0-1.0") for n in range(2)]
        tables.write(folder / "data/ingested/train_documents.parquet", texts, Document)
        for name, text in {
            "data/raw/rows.jsonl": "{}\n",
            "code.py": "x = 1\n",
            "data/report/README.md": "---\nmodel-index:\n- name: r0\n---\n\n# r0\n",
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "data/report/summary.json").write_text(json.dumps(REPORT))

    def model(self, place, weight, **facts):
        path = self.folder / place
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
        (path / "chat_template.jinja").write_text("{{ messages }}")
        save_file({"w": np.full(3, weight, dtype=np.float32)}, path / "model.safetensors")
        checkpoints.write_card(path, **facts)

    def examples(self, place, split, license, first=0):
        rows = [example(first + n, split=split, license=license, domain="rows.jsonl") for n in range(3)]
        tables.write(self.folder / place, rows, Example)

    def lock(self):
        """Write the dvc.lock that DVC writes when all stages have run."""
        lock_file.write(
            {
                stage: {
                    "cmd": f"python -m tasks.run {stage}",
                    "deps": [self.entry(path) for path in READS[stage]],
                    **({"params": {"params.yaml": PARAMS[stage]}} if stage in PARAMS else {}),
                    "outs": [self.entry(path) for path in WRITES[stage]],
                }
                for stage in READS
            }
        )

    def entry(self, path):
        md5_of = {file: hashlib.md5(file.read_bytes()).hexdigest() for file in lock_graph.members(Path(path))}
        return {"path": path, "hash": "md5", "md5": lock_graph.digest(Path(path), md5_of)}
