"""The network alone."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import _engine
from ._arrays import ArrayLike, cameras, image, matrix, whole

__all__ = ["Features", "Network"]


class Features:
    """Feature maps of one photo, made by `Network.features`."""

    def __init__(self, features: _engine.Features) -> None:
        self._features = features

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the photo, in pixels."""
        return self._features.image_size

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copy the maps out: ``[height, width, channels]`` float32 at a ``"quarter"``, ``"half"`` and all (``"full"``)
        of the photo's sides (padded to multiples of 4), as far as the weights have them."""
        return self._features.arrays()


class Network:
    """The network with its weights, on the processor.

    >>> Network.load().weights
    'built-in'
    """

    def __init__(self, weights: PathLike[str] | str | None = None) -> None:
        self._network = _engine.Network(weights)

    @classmethod
    def load(cls, weights: PathLike[str] | str | None = None) -> Network:
        """Load weights from a safetensors file, or the built-in ones.

        Raises:
            FileError: a file that cannot be read.
            InputError: a file that holds no weights of this network; the message names the tensor.
        """
        return cls(weights)

    @property
    def weights(self) -> str:
        """Where the weights are from: a path, or ``"built-in"``."""
        return self._network.weights

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights, hexadecimal."""
        return self._network.weights_sha256

    @property
    def config(self) -> str:
        """Which variant of the network they are of."""
        return self._network.config

    def features(self, photo: ArrayLike) -> Features:
        """Compute feature maps of a photo, ``[height, width, 3]`` uint8 0..255 or floats 0..1."""
        return Features(self._network.features(image(photo, "photo")))

    def depth(
        self,
        features: Sequence[Features],
        K: ArrayLike,
        cam_from_world: ArrayLike,
        depth_range: tuple[float, float],
        *,
        planes: int = 96,
        sampling: Literal["linear", "inverse"] | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Estimate the depth of the first of some photos: one level, nothing merged, nothing checked.

        Args:
            features: of the reference, then of its source photos.
            K: ``[N, 3, 3]`` intrinsics of these photos, or one ``[3, 3]`` for all; pixel centres are integers.
            cam_from_world: ``[N, 4, 4]`` or ``[N, 3, 4]`` poses, ``x_cam = R X + t``.
            depth_range: nearest and farthest depth, in the unit of the poses.
            planes: depths to try between them.
            sampling: their spacing; ``None``: linear if far / near < 3, else inverse.

        Returns:
            Depth and confidence, ``[height, width]`` float32 of the reference's size.

        Raises:
            InputError: fewer than two photos, a range or a number of planes that cannot be.
        """
        of_k, poses = cameras(K, cam_from_world, len(features))
        near, far = matrix(depth_range, (2,), "depth_range")
        of_photos = [of_photo._features for of_photo in features]
        depths = whole(planes, 2, 65536, "planes")
        return self._network.depth(of_photos, of_k, poses, (float(near), float(far)), depths, sampling)
