"""Arrays in files: what numpy would write, and an error where there is no room."""

import resource

import numpy as np
import pytest

from tasks.core.text import arrays


@pytest.mark.parametrize(
    "array", [np.arange(7), np.zeros(0, np.uint64), np.zeros(3, [("hash", np.uint64), ("text", np.int32)])]
)
def test_the_file_is_that_of_numpy(tmp_path, array):
    arrays.save(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpys.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpys.npy").read_bytes()


def test_without_room_it_is_an_error(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            arrays.save(tmp_path / "half.npy", np.zeros(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
