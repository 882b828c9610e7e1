"""Secrets that tests plant where users have theirs, and a search for them in every byte that was written."""

import base64
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

TOKENS = {
    "AWS_ACCESS_KEY_ID": "planted-aws-id-4821",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-7719",
    "HF_TOKEN": "planted-hf-token-3301",
    "OPENAI_API_KEY": "planted-openai-5520",
    "PGPASSWORD": "planted-postgres-9127",
    "MLFLOW_TRACKING_USERNAME": "someone",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-6613",
}
"""Environment variables whose value is a secret, or the user name that belongs to one."""
PREFECT = "someone:planted-prefect-2245"
NOTIFY = (
    "https://hooks.slack.com/services/T0/B0/planted-slack-8034",
    "http://127.0.0.1:9/hook?token=planted-webhook-4470",
    "mailtos://me:planted-mail-1158@example.org?to=team@example.org",
)
MLFLOW = "http://someone:planted-mlflow-url-1290@127.0.0.1:9"
PREFECT_DATABASE = "postgresql+asyncpg://someone:planted-prefect-url-3390@127.0.0.1:9/ratchet"
DOTENV = "KEY=planted-dotenv-5571\n"
SECRETS = [
    *(value for value in TOKENS.values() if value.startswith("planted")),
    "planted-prefect-2245", "planted-slack-8034", "planted-webhook-4470", "planted-mail-1158", "planted-mlflow-url-1290",
    "planted-prefect-url-3390", "planted-dotenv-5571",
]  # fmt: skip


def leaks(places: Iterable[Path], printed: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Return each secret found in the files of folders and in printed text, with its place. Secrets are found in plain form, as part of an address, and in base64."""
    texts = [("printed", text.encode()) for text in printed]
    for place in places:
        ours = place / "tests"  # copies of the repository contain this file
        paths = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        paths = [path for path in paths if not path.is_relative_to(ours)]
        texts += [(str(path), path.read_bytes()) for path in paths]
    return [
        (secret, name) for secret in SECRETS for name, data in texts if any(shape in data for shape in _shapes(secret))
    ]


def _shapes(secret: str) -> list[bytes]:
    within = [base64.b64encode(b"x" * start + secret.encode())[4:-4] for start in range(3)]
    return [secret.encode(), urllib.parse.quote(secret).encode(), *within]
