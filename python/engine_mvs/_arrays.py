"""Arrays as they come: NumPy's own, anything with ``__dlpack__`` (PyTorch, JAX, CuPy's copies) or ``__array__``."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from ._errors import InputError

__all__ = ["ArrayLike", "Image", "cameras", "image", "indices", "matrix", "per_view", "plain", "whole"]


@runtime_checkable
class _DLPack(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


ArrayLike: TypeAlias = Any
"""An array of NumPy, or anything with ``__dlpack__`` or ``__array__``, or nested lists."""

Image: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

# Of the DLPack standard: memory that the processor reads.
_HOST_DEVICES = (1, 3)


def plain(array: ArrayLike, what: str) -> npt.NDArray[Any]:
    """As an array of NumPy; without a copy where its memory is the processor's.

    >>> plain([[1, 2], [3, 4]], "example").shape
    (2, 2)
    """
    if isinstance(array, np.ndarray):
        return array
    if isinstance(array, _DLPack):
        device = array.__dlpack_device__()
        if int(device[0]) not in _HOST_DEVICES:
            found = "an array in the memory of a device"
            raise InputError(f"{what}: {found}; expected one of the host: copy it (.cpu())", 3)
        detach = getattr(array, "detach", None)
        return np.from_dlpack(detach() if callable(detach) else array)
    converted = np.asarray(array)
    if converted.dtype == object:
        raise InputError(f"{what}: {type(array).__name__}; expected an array", 3)
    return converted


def image(array: ArrayLike, what: str) -> Image:
    """A photo: ``[height, width, 3]`` or ``[height, width]`` (grey), bytes 0..255 or floats 0..1."""
    pixels = plain(array, what)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        expected = "(height, width, 3), or (height, width) for grey; an alpha goes into masks="
        raise InputError(f"{what}: shape {pixels.shape}; expected {expected}", 3)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    if np.issubdtype(pixels.dtype, np.floating):
        return np.ascontiguousarray(pixels, dtype=np.float32)
    raise InputError(f"{what}: {pixels.dtype}; expected uint8 (0 to 255) or floats (0 to 1)", 3)


def matrix(array: ArrayLike, shape: tuple[int | None, ...], what: str) -> npt.NDArray[np.float64]:
    """Numbers of a shape, in which ``None`` stands for any length."""
    numbers = plain(array, what)
    fits = numbers.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, numbers.shape))
    if not fits or not np.issubdtype(numbers.dtype, np.number) or np.issubdtype(numbers.dtype, np.complexfloating):
        wanted = ", ".join("N" if length is None else str(length) for length in shape)
        raise InputError(f"{what}: {numbers.dtype} of shape {numbers.shape}; expected numbers of shape ({wanted})", 3)
    return np.ascontiguousarray(numbers, dtype=np.float64)


def cameras(
    k: ArrayLike, cam_from_world: ArrayLike, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """K ``[N, 3, 3]`` (one for all is repeated) and poses ``[N, 4, 4]`` of so many views."""
    of_k = plain(k, "K")
    if of_k.ndim == 2:
        of_k = np.broadcast_to(of_k, (count, *of_k.shape))
    of_k = matrix(of_k, (count, 3, 3), "K")
    poses = plain(cam_from_world, "cam_from_world")
    if poses.ndim == 3 and poses.shape[1:] == (3, 4):
        last = np.broadcast_to(np.array([[[0.0, 0.0, 0.0, 1.0]]]), (len(poses), 1, 4))
        poses = np.concatenate([poses, last], axis=1)
    poses = matrix(poses, (count, 4, 4), "cam_from_world")
    if not np.array_equal(poses[:, 3], np.broadcast_to([0.0, 0.0, 0.0, 1.0], (count, 4))):
        raise InputError("cam_from_world: a last row that is not 0 0 0 1; expected poses, world to camera", 3)
    return of_k, poses


def per_view(values: Sequence[Any], count: int, what: str) -> Sequence[Any]:
    """One value for each view."""
    if len(values) != count:
        raise InputError(f"{what}: {len(values)} for {count} photos; expected one for each", 3)
    return values


def whole(value: Any, least: int, most: int, what: str) -> int:
    """A whole number from the least to the most."""
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise InputError(f"{what}: {value!r}; expected a whole number from {least} to {most}", 3)
    return number


def indices(values: Sequence[Any], what: str) -> list[int]:
    """Whole numbers, as indices are.

    >>> indices(np.array([2, 0]), "example")
    [2, 0]
    """
    try:
        return [index(value) for value in values]
    except TypeError:
        raise InputError(f"{what}: {values!r}; expected a sequence of whole numbers", 3) from None
