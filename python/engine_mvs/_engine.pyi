"""Types of the compiled module. Its functions are called by the package only."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
_Bytes = npt.NDArray[np.uint8]
_Photo = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
_Options = Sequence[tuple[str, str]]
_Told = Callable[[dict[str, Any]], object] | None

__version__: str

def command_line(words: Sequence[str]) -> int: ...
def set_threads(threads: int | None = None) -> None: ...
def infer(
    images: Sequence[_Photo],
    k: _Doubles,
    poses: _Doubles,
    names: Sequence[str],
    sources: Sequence[Sequence[int]] | None,
    ranges: Sequence[tuple[float, float] | None] | None,
    masks: Sequence[npt.NDArray[np.bool_] | None] | None,
    points: _Doubles | None,
    tracks: Sequence[Sequence[int]] | None,
    options: _Options,
    out: PathLike[str] | str | None,
    progress: _Told,
) -> dict[str, Any]: ...
def infer_scene(
    scene: PathLike[str] | str,
    options: _Options,
    out: PathLike[str] | str | None,
    progress: _Told,
) -> dict[str, Any]: ...
def fuse(
    depth: Sequence[_Floats],
    confidence: Sequence[_Floats],
    colours: Sequence[_Bytes],
    k: _Doubles,
    poses: _Doubles,
    sources: Sequence[Sequence[int]],
    range: tuple[float, float] | None,
    method: str | None,
    preset: str | None,
    constants: _Options,
    thin: float | None,
    progress: _Told,
) -> dict[str, Any]: ...
def write_ply(
    path: PathLike[str] | str,
    positions: _Doubles,
    normals: _Floats,
    colours: _Bytes,
    confidence: _Floats,
    views: _Bytes,
) -> None: ...
def evaluate(
    depth: Sequence[_Floats],
    truth: Sequence[_Floats],
    confidence: Sequence[_Floats] | None,
    interval: float | None,
) -> dict[str, Any]: ...
def evaluate_cloud(
    points: _Doubles,
    reference: _Doubles,
    thresholds: Sequence[float],
    max_distance: float | None,
    voxel: float | None,
) -> dict[str, Any]: ...
def read_scene(path: PathLike[str] | str, options: _Options) -> SceneFiles: ...

class SceneFiles:
    def fields(self) -> dict[str, Any]: ...
    def photo(
        self, view: int, max_side: int | None = None
    ) -> tuple[_Floats, npt.NDArray[np.bool_] | None, _Doubles]: ...

class Network:
    def __new__(cls, weights: PathLike[str] | str | None = None) -> Network: ...
    @property
    def weights(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...
    @property
    def config(self) -> str: ...
    def features(self, image: _Photo) -> Features: ...
    def depth(
        self,
        features: Sequence[Features],
        k: _Doubles,
        poses: _Doubles,
        range: tuple[float, float],
        planes: int,
        sampling: str | None,
    ) -> tuple[_Floats, _Floats]: ...

class Features:
    @property
    def image_size(self) -> tuple[int, int]: ...
    def arrays(self) -> dict[str, _Floats]: ...
