"""Stage `report`: compare every model with the reference, and write the result for people, for programs, and for users of the model.

reads   models/base/ratchet.json, training.json and ratchet.json of models/pretrained/ and models/tuned/<round>/ where they trained,
        data/rounds/<round>/{faults,faults_refused}.parquet, for a turn also the outputs of stages diagnose and refine,
        data/selection.json,
        data/ingested/{report.json,test.parquet,test_documents.parquet}, data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet
writes  data/report/{summary.txt,summary.json,metrics.json,index.html,README.md},
        data/report/plots/{loss,validation,forgetting,differences,passes,signals,quality,mix,rounds}.csv
"""

import csv
import json
from pathlib import Path

from tasks.core.stage import Run
from tasks.stages.report.config import StageConfig
from tasks.stages.report.reading import read_workspace
from tasks.stages.report.render.data_files import metric_name, metrics_record, plot_tables, summary_record
from tasks.stages.report.render.pages import html_page, model_card
from tasks.stages.report.render.summary_text import summary_text

NOTHING = "Nothing was measured: `models` in params.yaml names no model.\n"


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Compare the models, compute the verdicts and write the report. Without models the summary says that there are none."""
    if not config.models:
        outputs["report"].mkdir(parents=True)
        (outputs["report"] / "summary.txt").write_text(NOTHING, encoding="utf-8")
        (outputs["report"] / "metrics.json").write_text("{}\n", encoding="utf-8")  # dvc.yaml names it as an output
        run.say(NOTHING.rstrip())
        return
    data = read_workspace(inputs, config)
    text = summary_text(data)

    folder = outputs["report"]
    (folder / "plots").mkdir(parents=True)
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    summary = json.dumps(summary_record(data), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")
    metrics = json.dumps(metrics_record(data), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(metrics + "\n", encoding="utf-8")
    (folder / "index.html").write_text(html_page(data), encoding="utf-8")
    (folder / "README.md").write_text(model_card(data), encoding="utf-8")
    for name, rows in plot_tables(data).items():
        with (folder / "plots" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    for comparison, verdict in zip(data.comparisons, data.verdicts, strict=True):
        run.note(**{f"verdict_{comparison.after}": f"{verdict.here} here, {verdict.elsewhere} elsewhere"})
        run.log(None, **{f"{comparison.after}_{metric_name(row)}": row.difference.value for row in comparison.rows})
    run.say(text.rstrip())
