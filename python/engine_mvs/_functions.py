"""The functions: arrays are checked and converted here, the work is the engine's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _engine
from ._arrays import ArrayLike, cameras, image, matrix, per_view, plain
from ._errors import InputError
from ._network import Network
from ._types import Cloud, Result, Scene

__all__ = ["evaluate", "evaluate_cloud", "fuse", "infer", "infer_scene", "read_scene", "set_threads"]

Path: TypeAlias = PathLike[str] | str
Progress: TypeAlias = Callable[[dict[str, Any]], object]
"""Called with each event of a run: a dictionary with ``event`` ("note", "stage", "step", ...)."""

Quality: TypeAlias = Literal["fast", "normal", "high", "best"]
Resolution: TypeAlias = Literal["full", "half", "quarter"]
Sampling: TypeAlias = Literal["linear", "inverse"]


def set_threads(threads: int | None = None) -> None:
    """Choose the number of threads for all work of this process; ``None`` is one per processor.

    It must be called before any other function works.

    Raises:
        InputError: other work has already begun with another number.
    """
    _engine.set_threads(threads)


def _words(options: Mapping[str, object]) -> list[tuple[str, str]]:
    """Options as they would be typed; those that are ``None`` are not given."""

    def word(value: object) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, Network):
            return value.weights
        if isinstance(value, PathLike):
            return str(fspath(value))
        if isinstance(value, (tuple, list, np.ndarray)):
            return ",".join(word(part) for part in value)
        return str(value)

    return [(name, word(value)) for name, value in options.items() if value is not None]


def _run_options(options: Mapping[str, object], cloud: bool) -> list[tuple[str, str]]:
    """Of a run: the built-in weights need no name."""
    given = dict(options)
    weights = given.get("weights")
    if isinstance(weights, Network) and weights.weights == "built-in":
        given["weights"] = None
    return _words({**given, "depth_only": None if cloud else True})


def _result(made: dict[str, Any]) -> Result:
    cloud = made.pop("cloud")
    return Result(cloud=None if cloud is None else Cloud(**cloud), **made)


def infer(
    images: Sequence[ArrayLike],
    K: ArrayLike,
    cam_from_world: ArrayLike,
    *,
    sources: Sequence[Sequence[int]] | None = None,
    depth_range: ArrayLike | None = None,
    masks: Sequence[ArrayLike | None] | None = None,
    points: ArrayLike | None = None,
    tracks: Sequence[Sequence[int]] | None = None,
    names: Sequence[str] | None = None,
    cloud: bool = True,
    out: Path | None = None,
    progress: Progress | None = None,
    quality: Quality | None = None,
    max_side: int | None = None,
    views: int | None = None,
    planes: int | None = None,
    sampling: Sampling | None = None,
    levels: int | None = None,
    resolution: Resolution | None = None,
    weights: Path | Network | None = None,
    raw_confidence: bool | None = None,
    unrefined: bool | None = None,
    min_confidence: float | None = None,
    min_views: int | None = None,
    check_sources: int | None = None,
    thin: float | None = None,
    device: str | None = None,
    memory: float | None = None,
    **options: object,
) -> Result:
    """Make depth maps, and a cloud, of calibrated photos in memory: what ``engine infer`` does with files.

    The same pixels and cameras give the same maps to the bit as from files. Python's lock is released; Ctrl-C stops.

    Args:
        images: ``N`` photos, ``[height, width, 3]`` uint8 0..255 or floats 0..1, or ``[height, width]`` for grey; sizes
            may differ. NumPy's arrays, or anything with ``__dlpack__`` or ``__array__``. They must be free of lens
            distortion.
        K: ``[N, 3, 3]`` intrinsics in pixels, or one ``[3, 3]`` for all; pixel centres are integers (a photo's first
            pixel is at 0, 0).
        cam_from_world: ``[N, 4, 4]`` or ``[N, 3, 4]`` poses, ``x_cam = R X + t``, OpenCV's axes.
        sources: for each photo the indices of the photos to compare it with, best first; ``None``: selected by the
            cameras, and by ``points`` where there are any.
        depth_range: nearest and farthest depth in the unit of the poses: two numbers for all photos, or ``[N, 2]``
            (NaN where unknown); ``None``: from ``points``.
        masks: for each photo ``[height, width]``, zero where it does not show the scene, or ``None``.
        points: ``[P, 3]`` sparse points in the world.
        tracks: for each point the indices of the photos that see it; ``None``: every one in which it lies.
        names: of the views; by default "0000", "0001", ...
        cloud: fuse the maps into a cloud, too.
        out: folder to keep all files in, as the program writes them; a stopped run goes on from them. ``None``: none
            are kept.
        progress: called with each event, a dictionary; an exception that it raises stops the run.
        quality: preset of several options, as ``--quality``.
        max_side: reduce photos to this many pixels on the longer side.
        views: photos that are compared for one map, the reference included.
        planes: depths to try at each pixel.
        sampling: spacing of the depths.
        levels: levels of the image pyramid.
        resolution: of the maps, against the photos.
        weights: a file, or a `Network`; ``None``: the built-in ones.
        raw_confidence: leave the confidence as the network's probability.
        unrefined: leave the depths as the network makes them.
        min_confidence: pixels above it become points.
        min_views: source views that must agree on a point.
        check_sources: source views to check a pixel against.
        thin: keep one point a cube of this side.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        memory: GB that the run may use beside the arrays.
        **options: further options of ``engine infer``, with ``_`` for ``-`` (``engine infer --help``).

    Returns:
        One map of each kind for each view, and the cloud.

    Raises:
        InputError: an argument that does not hold what it should.
        MemoryNeedError: a run that would not fit in memory.
        NothingError: no point survived; with ``cloud=False`` the maps are returned all the same.
        KeyboardInterrupt: Ctrl-C.
    """
    count = len(images)
    photos = [image(photo, f"images[{i}]") for i, photo in enumerate(images)]
    of_k, poses = cameras(K, cam_from_world, count)
    if sources is not None:
        sources = [[int(i) for i in of_view] for of_view in per_view(sources, count, "sources")]
    of_masks: list[npt.NDArray[np.bool_] | None] | None = None
    if masks is not None:
        of_masks = [_mask(mask, i) for i, mask in enumerate(per_view(masks, count, "masks"))]
    given = {
        "quality": quality,
        "max_side": max_side,
        "views": views,
        "planes": planes,
        "sampling": sampling,
        "levels": levels,
        "resolution": resolution,
        "weights": weights,
        "raw_confidence": raw_confidence,
        "unrefined": unrefined,
        "min_confidence": min_confidence,
        "min_views": min_views,
        "check_sources": check_sources,
        "thin": thin,
        "device": device,
        "memory": memory,
        **options,
    }
    made = _engine.infer(
        photos,
        of_k,
        poses,
        [f"{i:04}" for i in range(count)] if names is None else [str(n) for n in per_view(names, count, "names")],
        sources,
        None if depth_range is None else _ranges(depth_range, count),
        of_masks,
        None if points is None else matrix(points, (None, 3), "points"),
        None if tracks is None else [[int(i) for i in track] for track in tracks],
        _run_options(given, cloud),
        out,
        progress,
    )
    return _result(made)


def infer_scene(
    scene: Path,
    *,
    cloud: bool = True,
    out: Path | None = None,
    progress: Progress | None = None,
    quality: Quality | None = None,
    max_side: int | None = None,
    **options: object,
) -> Result:
    """Make depth maps, and a cloud, of a scene's files: ``engine infer SCENE``.

    Args:
        scene: folder or file, as for the program.
        cloud: fuse the maps into a cloud, too.
        out: folder to keep all files in; ``None``: none are kept.
        progress: called with each event, a dictionary; an exception that it raises stops the run.
        quality: preset of several options, as ``--quality``.
        max_side: reduce photos to this many pixels on the longer side.
        **options: further options of ``engine infer``, with ``_`` for ``-``.

    Raises:
        InputError, FileError, MemoryNeedError, NothingError: as the program says.
    """
    given = {"quality": quality, "max_side": max_side, **options}
    return _result(_engine.infer_scene(scene, _run_options(given, cloud), out, progress))


def read_scene(scene: Path, **options: object) -> Scene:
    """Read the cameras of a scene: MVSNet's layout, COLMAP, or another program's file (docs/FORMATS.md).

    Args:
        scene: folder or file.
        **options: of the program, with ``_`` for ``-``: ``format``, ``images``, ``masks``, ``depth_numbers``,
            ``range_from``, ``prior``, ``prior_scale``, ``roi``.

    Raises:
        InputError: files that do not hold what they should.
        FileError: files that cannot be read.
    """
    files = _engine.read_scene(scene, _words(options))
    fields = files.fields()
    fields["images"] = [str(path) for path in fields["images"]]
    return Scene(_files=files, **fields)


def fuse(
    depth: Sequence[ArrayLike],
    images: Sequence[ArrayLike],
    K: ArrayLike,
    cam_from_world: ArrayLike,
    *,
    confidence: Sequence[ArrayLike] | None = None,
    sources: Sequence[Sequence[int]] | None = None,
    depth_range: tuple[float, float] | None = None,
    method: Literal["reprojection", "dynamic", "disparity", "graph"] | None = None,
    preset: str | None = None,
    thin: float | None = None,
    progress: Progress | None = None,
    **constants: object,
) -> Cloud:
    """Fuse depth maps into one cloud: what ``engine fuse`` does with files.

    Args:
        depth: ``N`` maps ``[height, width]``, 0 where there is no depth.
        images: the photos at the maps' pixels, ``[height, width, 3]``, for colours.
        K: ``[N, 3, 3]`` intrinsics of the maps' pixels, or one for all.
        cam_from_world: ``[N, 4, 4]`` or ``[N, 3, 4]`` poses, ``x_cam = R X + t``.
        confidence: ``N`` maps 0..1; ``None``: 1 everywhere.
        sources: for each view those that it is checked against, best first; ``None``: all others.
        depth_range: depths outside are not used.
        method: how maps are compared (``engine fuse --help``).
        preset: published constants of a program or paper (``engine fuse --list-presets``).
        thin: keep one point a cube of this side.
        progress: called with each event.
        **constants: of the method: ``min_confidence``, ``min_views``, ``max_reprojection_px``, ...

    Raises:
        InputError: maps that do not go together, constants that the method does not have.
    """
    count = len(depth)
    maps = [_map(of_view, f"depth[{i}]") for i, of_view in enumerate(depth)]
    if confidence is None:
        certain = [np.ones_like(of_view) for of_view in maps]
    else:
        certain = [_map(c, f"confidence[{i}]") for i, c in enumerate(per_view(confidence, count, "confidence"))]
    colours = [_bytes(image(photo, f"images[{i}]")) for i, photo in enumerate(per_view(images, count, "images"))]
    for i, (of_depth, of_confidence, of_photo) in enumerate(zip(maps, certain, colours)):
        if of_depth.shape != of_confidence.shape or of_depth.shape != of_photo.shape[:2]:
            found = f"{of_depth.shape}, {of_confidence.shape} and {of_photo.shape[:2]}"
            raise InputError(f"view {i}: depth, confidence and photo of {found}; expected one size", 3)
    of_k, poses = cameras(K, cam_from_world, count)
    if sources is None:
        sources = [[other for other in range(count) if other != view] for view in range(count)]
    checked = [[int(i) for i in of_view] for of_view in per_view(sources, count, "sources")]
    for view, of_view in enumerate(checked):
        for other in of_view:
            if not 0 <= other < count or other == view:
                raise InputError(f"sources[{view}]: {other}; expected indices of other views, 0 to {count - 1}", 3)
    named = [(name.replace("_", "-"), word) for name, word in _words(constants)]
    return Cloud(
        **_engine.fuse(
            maps, certain, colours, of_k, poses, checked, depth_range, method, preset, named, thin, progress
        )
    )


def evaluate(
    depth: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    *,
    confidence: Sequence[ArrayLike] | None = None,
    interval: float | None = None,
) -> dict[str, Any]:
    """Measure depth maps against true ones: what ``engine eval depth`` prints.

    Args:
        depth: maps ``[height, width]``, 0 where there is no depth.
        truth: true maps of the same sizes, 0 where there is none.
        confidence: maps 0..1.
        interval: distance of depth hypotheses, for shares within 1, 2 and 4 of them.

    Returns:
        Means, medians and shares by name (``mean_error_rel``, ``within_1_percent``, ...); shares are 0..1 of the pixels
        with a truth; ``None`` where nothing was counted.

    Raises:
        InputError: maps of different sizes.

    >>> evaluate([[[1.0, 2.02]]], [[[1.0, 2.0]]])["within_0_5_percent"]
    0.5
    """
    maps = [_map(of_view, f"depth[{i}]") for i, of_view in enumerate(depth)]
    true = [_map(of_view, f"truth[{i}]") for i, of_view in enumerate(per_view(truth, len(maps), "truth"))]
    certain = None
    if confidence is not None:
        of_views = per_view(confidence, len(maps), "confidence")
        certain = [_map(of_view, f"confidence[{i}]") for i, of_view in enumerate(of_views)]
    return _engine.evaluate(maps, true, certain, interval)


def evaluate_cloud(
    points: ArrayLike,
    reference: ArrayLike,
    *,
    thresholds: Sequence[float] = (),
    max_distance: float | None = None,
    voxel: float | None = None,
) -> dict[str, Any]:
    """Measure a cloud against another: what ``engine eval cloud`` prints.

    Args:
        points: ``[P, 3]``, the cloud to measure.
        reference: ``[R, 3]``, the true one.
        thresholds: distances that count as near; by default 0.1, 0.2 and 0.5 % of the reference's diagonal.
        max_distance: distances from here on are left out of means and medians.
        voxel: reduce both clouds to one point a voxel of this edge first.

    Returns:
        ``accuracy`` and ``completeness`` (mean, median, variance, count), ``scores`` (precision, recall and F-score at
        each threshold), and counts.

    Raises:
        InputError: a cloud without points, coordinates that are not finite.

    >>> found = evaluate_cloud([[0.0, 0.0, 0.1]], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], thresholds=[0.5])
    >>> found["accuracy"]["mean"], found["completeness"]["mean"], found["scores"][0]["recall"]
    (0.1, 0.5, 0.5)
    """
    cloud = matrix(points, (None, 3), "points")
    true = matrix(reference, (None, 3), "reference")
    return _engine.evaluate_cloud(cloud, true, [float(t) for t in thresholds], max_distance, voxel)


def _ranges(depth_range: ArrayLike, count: int) -> list[tuple[float, float] | None]:
    numbers = np.asarray(plain(depth_range, "depth_range"))
    if numbers.ndim == 1:
        numbers = np.broadcast_to(numbers, (count, *numbers.shape))
    numbers = matrix(numbers, (count, 2), "depth_range")
    return [None if bool(np.isnan(pair).any()) else (float(pair[0]), float(pair[1])) for pair in numbers]


def _mask(mask: ArrayLike | None, view: int) -> npt.NDArray[np.bool_] | None:
    if mask is None:
        return None
    values = plain(mask, f"masks[{view}]")
    if values.ndim != 2:
        raise InputError(f"masks[{view}]: shape {values.shape}; expected (height, width)", 3)
    return np.ascontiguousarray(values != 0)


def _map(values: ArrayLike, what: str) -> npt.NDArray[np.float32]:
    numbers = plain(values, what)
    if numbers.ndim != 2 or not (np.issubdtype(numbers.dtype, np.floating) or np.issubdtype(numbers.dtype, np.integer)):
        found = f"{numbers.dtype} of shape {numbers.shape}"
        raise InputError(f"{what}: {found}; expected numbers of shape (height, width)", 3)
    return np.ascontiguousarray(numbers, dtype=np.float32)


def _bytes(photo: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    if photo.dtype == np.uint8:
        return np.ascontiguousarray(photo, dtype=np.uint8)
    return np.ascontiguousarray(np.clip(np.floor(photo * np.float32(255.0) + np.float32(0.5)), 0, 255).astype(np.uint8))
