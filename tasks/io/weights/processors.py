"""The files by which a model reads images, video and sound. Only its text is trained, and other programs open no such model without them."""

import shutil
from pathlib import Path

FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
"""The names that transformers gives them."""


def copy(base: Path, folder: Path) -> None:
    """Copy those that the model in `base` has into the folder of one that was made of it."""
    for name in FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
