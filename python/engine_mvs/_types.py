"""What functions give."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _engine
from ._arrays import matrix, whole

__all__ = ["Cloud", "Result", "Scene"]


@dataclass(frozen=True, eq=False)
class Cloud:
    """A coloured point cloud of ``P`` points.

    Attributes:
        points: ``[P, 3]`` float64, positions in the world, in scene units.
        normals: ``[P, 3]`` float32, unit normals in the world; zero where unknown.
        colours: ``[P, 3]`` uint8, red green blue.
        confidence: ``[P]`` float32, 0..1, of the pixel that the point comes from.
        views: ``[P]`` uint8, how many views agree on the point; 255 stands for more.
    """

    points: npt.NDArray[np.float64]
    normals: npt.NDArray[np.float32]
    colours: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    views: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)

    def write_ply(self, path: PathLike[str] | str) -> None:
        """Write the cloud as a binary PLY file, as the program ``engine`` does.

        Raises:
            FileError: the file cannot be written; nothing is left of it then.
            InputError: arrays that do not go together, coordinates that are not finite.
        """
        count = len(self.points)
        _engine.write_ply(
            path,
            matrix(self.points, (None, 3), "points"),
            matrix(self.normals, (count, 3), "normals").astype(np.float32),
            matrix(self.colours, (count, 3), "colours").clip(0, 255).astype(np.uint8),
            matrix(self.confidence, (count,), "confidence").astype(np.float32),
            matrix(self.views, (count,), "views").clip(0, 255).astype(np.uint8),
        )


@dataclass(frozen=True, eq=False)
class Result:
    """Depth maps of a run, one of each kind for each view that got one; sizes may differ from view to view.

    Attributes:
        names: names of the views.
        depth: ``[height, width]`` float32 each, in scene units along the camera's axis; 0 where there is none.
        confidence: ``[height, width]`` float32 each, the probability 0..1 that the depth is right.
        normal: ``[height, width, 3]`` float32 each, unit normals in the world's axes, towards the camera; 0 where there
            is no depth.
        K: ``[N, 3, 3]`` float64, intrinsics of the maps' pixels; pixel centres are integers.
        cam_from_world: ``[N, 4, 4]`` float64, ``x_cam = R X + t``, OpenCV's axes (x right, y down, z forward).
        cloud: the fused cloud; ``None`` where none was asked for.
        manifest: all parameters, assumptions, timings and counts, as in ``manifest.json``.
    """

    names: list[str]
    depth: list[npt.NDArray[np.float32]]
    confidence: list[npt.NDArray[np.float32]]
    normal: list[npt.NDArray[np.float32]]
    K: npt.NDArray[np.float64]
    cam_from_world: npt.NDArray[np.float64]
    cloud: Cloud | None
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def notes(self) -> list[str]:
        """What was assumed, chosen or skipped, one sentence each."""
        return [str(note) for note in self.manifest["notes"]]


@dataclass(frozen=True, eq=False)
class Scene:
    """Cameras of a scene as its files give them, distortion already taken out.

    Attributes:
        names: names of the ``N`` views.
        images: paths of their photos.
        sizes: width and height of each photo as stored.
        K: ``[N, 3, 3]`` float64, pinhole intrinsics of the stored (undistorted) photo; pixel centres are integers.
        cam_from_world: ``[N, 4, 4]`` float64, ``x_cam = R X + t``, OpenCV's axes.
        depth_range: ``[N, 2]`` float64, nearest and farthest depth that the files give; NaN where they give none.
        planes: number of depths that the files ask for, or ``None``.
        sources: for each view the indices of its source views, best first.
        points: ``[P, 3]`` float64, sparse points.
        tracks: for each point the indices of the views that see it.
        notes: what was assumed, one sentence each.
    """

    names: list[str]
    images: list[str]
    sizes: list[tuple[int, int]]
    K: npt.NDArray[np.float64]
    cam_from_world: npt.NDArray[np.float64]
    depth_range: npt.NDArray[np.float64]
    planes: list[int | None]
    sources: list[list[int]]
    points: npt.NDArray[np.float64]
    tracks: list[list[int]]
    notes: list[str]
    _files: _engine.SceneFiles

    def __len__(self) -> int:
        return len(self.names)

    def photo(
        self, view: int, max_side: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None, npt.NDArray[np.float64]]:
        """Decode a photo, undistort it, and reduce it so that its longer side has at most ``max_side`` pixels.

        Returns:
            The photo ``[height, width, 3]`` float32, 0..1 as stored; its mask ``[height, width]`` (true where it shows
            the scene) or ``None``; its K ``[3, 3]``.

        Raises:
            InputError: no such view, or a photo that is damaged or of another size than its camera.
        """
        side = None if max_side is None else whole(max_side, 1, 1_000_000_000, "max_side")
        return self._files.photo(whole(view, 0, len(self) - 1, "view"), side)
