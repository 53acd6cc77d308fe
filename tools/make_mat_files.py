"""Writes tests/data/mat with SciPy: MAT files of level 5 for the tests of the reader.

    python tools/make_mat_files.py

Needs numpy and scipy.
"""

from pathlib import Path

import numpy as np
import scipy.io

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "data" / "mat"


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    x, y, z = np.meshgrid(np.arange(5), np.arange(4), np.arange(3), indexing="ij")
    compressed = {
        "ObsMask": ((x + 2 * y + 3 * z) % 2).astype(np.uint8),
        "BB": np.array([[-1.5, 2, 3], [10, 20.25, 30]]),
        "Res": np.array([[0.25]]),
        "flag": np.array([[True, False]]),
        "text": "words",
        "cell": np.array([[1, "a"]], dtype=object),
        "s": {"a": 1.0},
        "z": np.array([1 + 2j]),
    }
    scipy.io.savemat(FOLDER / "compressed.mat", compressed, do_compression=True)
    plain = {
        "P": np.array([[1.0], [-2.5], [3e-9], [4e8]]),
        "i16": np.array([[-3, 7]], dtype=np.int16),
        "i64": np.array([[-5]], dtype=np.int64),
        "f32": np.array([[1.5, 2.5, -3.5]], dtype=np.float32),
        "e": np.zeros((0, 0)),
        "u32": np.array([[4294967295]], dtype=np.uint32),
        "i8": np.array([[-128, 127, 0]], dtype=np.int8),
    }
    scipy.io.savemat(FOLDER / "plain.mat", plain, do_compression=False)


if __name__ == "__main__":
    main()
