"""Options of the program as arguments: each stands here once, with its type and what it does.

Names are those of the command line with ``_`` for ``-``; ``None`` is an option that is not given. Values are checked by
the program's own rules (``engine infer --help``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, TypeVar, get_type_hints

import numpy as np

from ._network import Network

__all__ = ["FileOptions", "FileRunOptions", "FusionConstants", "RunOptions", "described", "words"]

Path: TypeAlias = PathLike[str] | str
_Function = TypeVar("_Function", bound=Callable[..., object])


class _PlaceOptions(TypedDict, total=False):
    range_from: Annotated[
        Path | None, "cloud (PLY, LAS, LAZ, E57) in the scene's coordinates, or list of ranges, to take depths from"
    ]
    prior: Annotated[Path | None, "folder of depth maps, named after the photos, that narrow the depths to search"]
    prior_scale: Annotated[float | None, "number that 16-bit PNG maps in prior are divided by"]
    prior_tolerance: Annotated[float | None, "how far depths may lie from those of prior, as a share; 0.05"]
    roi: Annotated[
        Sequence[float] | Path | None,
        "region of interest: x0, y0, z0, x1, y1, z1 in scene units, a file of a box, or 'auto'",
    ]


class FileOptions(_PlaceOptions, total=False):
    """How a scene's files are read."""

    format: Annotated[str | None, "format of the cameras, where there are several"]
    images: Annotated[Path | None, "folder of the photos, where they are not found"]
    poses: Annotated[
        Literal["world-to-camera", "camera-to-world", "world-to-camera-opengl", "camera-to-world-opengl"] | None,
        "what poses are in files that do not say so",
    ]
    masks: Annotated[Path | None, "folder of masks, images named after their photos"]
    sparse: Annotated[Path | None, "COLMAP model, where it is not in the scene's folder"]
    depth_numbers: Annotated[str | None, "how the second of two depth numbers of a cam.txt is read"]


class RunOptions(_PlaceOptions, total=False):
    """What ``engine infer`` can be told of the work itself."""

    quality: Annotated[Literal["fast", "normal", "high", "best"] | None, "several options at once"]
    max_side: Annotated[int | None, "reduce photos to this many pixels on the longer side"]
    view: Annotated[str | Sequence[str] | None, "names of the views that get a map; all by default"]
    views: Annotated[int | None, "photos that are compared for one map, the reference included"]
    planes: Annotated[int | None, "depths to try at each pixel"]
    range: Annotated[tuple[float, float] | None, "nearest and farthest depth of all views, in scene units"]
    widen_range: Annotated[float | None, "widen ranges from sparse points by this fraction at either end"]
    sampling: Annotated[Literal["linear", "inverse"] | None, "spacing of the depths"]
    levels: Annotated[int | None, "levels of the image pyramid"]
    resolution: Annotated[Literal["full", "half", "quarter"] | None, "of the maps, against the photos"]
    weights: Annotated[
        Path | Network | None, "safetensors file, or a `Network`, which stands for the file that it was loaded from"
    ]
    raw_confidence: Annotated[bool | None, "leave the confidence as the network's probability"]
    unrefined: Annotated[bool | None, "leave the depths as the network makes them"]
    trusted_confidence: Annotated[float | None, "0..1: coarser pixels repair finer ones only above it"]
    replaced_confidence: Annotated[float | None, "0..1: finer pixels are repaired only below it"]
    max_reprojection_px: Annotated[float | None, "map pixels that an agreeing view may move a pixel by"]
    max_depth_error_rel: Annotated[float | None, "fraction that an agreeing view may change a depth by"]
    min_views: Annotated[int | None, "source views that must agree on a point"]
    check_sources: Annotated[int | None, "source views to check a pixel against"]
    min_confidence: Annotated[float | None, "0..1: pixels above it become points"]
    keep_duplicates: Annotated[bool | None, "keep pixels that an accepted point already explains"]
    thin: Annotated[float | None, "keep one point a cube of this side, in scene units"]
    ply_offset: Annotated[Sequence[float] | str | None, "x, y, z to take from stored coordinates, or 'auto'"]
    normals: Annotated[bool | None, "write normal maps into out=, too"]
    subfolders: Annotated[
        Literal["auto", "always", "never"] | None, "with out=: whether views' files go to subfolders; auto: above 4096"
    ]
    depth_only: Annotated[bool | None, "as cloud=False"]
    verify: Annotated[bool | None, "with out=: read all bytes of what an earlier run has made"]
    device: Annotated[str | None, "'auto', 'cpu', 'cuda', 'cuda:N', a list of these or 'cuda:all'"]
    precision: Annotated[Literal["f16", "f32"] | None, "of activations on a GPU"]
    convolutions: Annotated[Literal["own", "cudnn"] | None, "library for convolutions on a GPU"]
    jpeg: Annotated[Literal["processor", "nvjpeg"] | None, "what decodes JPEG photos"]
    vram: Annotated[float | None, "GB of a GPU's memory that the run may use"]
    threads: Annotated[int | None, "number of threads; the process's first work decides"]
    memory: Annotated[float | None, "GB that the run may use beside the arrays"]


class FileRunOptions(FileOptions, RunOptions, total=False):
    """What ``engine infer`` can be told of a scene's files and of the work."""


class FusionConstants(TypedDict, total=False):
    """Constants of the methods of fusion; which method has which: docs/FUSION.md."""

    min_confidence: Annotated[float | None, "0..1: only pixels above it are used"]
    check_sources: Annotated[int | None, "source views to check a pixel against, best first"]
    max_reprojection_px: Annotated[float | None, "map pixels that an agreeing view may move a pixel by"]
    max_depth_error_rel: Annotated[float | None, "fraction that an agreeing view may change a depth by"]
    min_views: Annotated[int | None, "source views that must agree on a point"]
    keep_duplicates: Annotated[bool | None, "keep pixels that an accepted point already explains"]
    min_segment_px: Annotated[float | None, "drop surfaces of a map with fewer pixels, in a map of a million"]
    min_angle_deg: Annotated[float | None, "angle between the rays of views that count as two"]
    see_through_factor: Annotated[float | None, "times max_depth_error_rel from which a view sees through a point"]
    max_depth_error_px: Annotated[float | None, "map pixels of its sources to which a view tells depths apart"]
    mean_colour: Annotated[bool | None, "the mean of the confirming views' colours"]
    max_normal_deg: Annotated[float | None, "degrees that normals of confirming views may differ by"]
    reprojection_step_px: Annotated[float | None, "dynamic: map pixels for each agreeing view"]
    depth_error_step_rel: Annotated[float | None, "dynamic: fraction for each agreeing view"]
    max_views: Annotated[int | None, "dynamic: the most views whose depths are averaged"]
    max_disparity_px: Annotated[float | None, "disparity: map pixels that disparities may differ by"]
    min_pixels: Annotated[int | None, "graph: pixels that a point is made of, at least"]
    max_pixels: Annotated[int | None, "graph: pixels that a point is made of, at most"]
    max_traversal_depth: Annotated[int | None, "graph: steps from the seed, at most"]


def words(options: Mapping[str, object]) -> list[tuple[str, str]]:
    """Options as they would be typed, in order; those that are ``None`` are not given.

    >>> words({"planes": 48, "range": (0.5, 12), "view": ["a", "b"], "unrefined": True, "thin": None})
    [('planes', '48'), ('range', '0.5,12'), ('view', 'a'), ('view', 'b'), ('unrefined', 'true')]
    """

    def word(value: object) -> str:
        if isinstance(value, (bool, np.bool_)):
            return "true" if value else "false"
        if isinstance(value, Network):
            return value.weights
        if isinstance(value, PathLike):
            return str(fspath(value))
        return str(value)

    found = []
    for name, value in options.items():
        if isinstance(value, (tuple, list, np.ndarray)):
            parts = [word(part) for part in value]
            # Names are told one by one; the numbers of a range or a box are one value.
            is_names = any(isinstance(part, (str, PathLike)) for part in value)
            found += [(name, part) for part in parts] if is_names else [(name, ",".join(parts))]
        # The built-in weights need no name.
        elif value is not None and not (isinstance(value, Network) and value.weights == "built-in"):
            found.append((name, word(value)))
    return found


def described(kind: type[Any]) -> Callable[[_Function], _Function]:
    """Puts the options of a kind into a function's documentation, in place of ``{options}``."""

    def put(function: _Function) -> _Function:
        hints = get_type_hints(kind, include_extras=True)
        lines = [f"        {name}: {hint.__metadata__[0]}." for name, hint in hints.items()]
        function.__doc__ = (function.__doc__ or "").replace("        {options}", "\n".join(lines))
        return function

    return put
