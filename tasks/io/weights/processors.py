"""The files with which a model processes images, video and audio. Only its text is trained, but other programs cannot open the model without them."""

import shutil
from pathlib import Path

FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
"""The names of these files in transformers."""


def copy(base: Path, folder: Path) -> None:
    """Copy these files from the model in `base` to the folder of a model that was made from it."""
    for name in FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
