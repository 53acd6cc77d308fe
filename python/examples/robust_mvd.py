"""engine as a model of the Robust MVD benchmark (Schroeppel et al., 3DV 2022; package ``rmvd``).

    rmvd's model interface: ``input_adapter`` makes of a sample what the model takes, ``__call__`` runs it,
    ``output_adapter`` gives ``{"depth": [1, 1, H, W], "depth_uncertainty": [1, 1, H, W]}`` and what else there is.

Registered as ``engine`` where ``rmvd`` is installed:

    python -c "import robust_mvd, rmvd; model = rmvd.create_model('engine')"

Samples have images as lists of ``[1, 3, H, W]`` floats 0..255, ``intrinsics`` ``[1, 3, 3]`` with pixel centres at
integers plus a half, ``poses`` ``[1, 4, 4]`` (camera from the key view), ``keyview_idx`` and perhaps ``depth_range``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import engine_mvs

PLANES = 128
# Poses of any scale come without a range; COLMAP-like scenes lie within these multiples of the longest baseline.
RANGE_IN_BASELINES = (2.0, 100.0)


class EngineModel:
    """Depth of the key view from all others, at the photos' own resolution."""

    def __init__(self, weights: str | None = None) -> None:
        self.network = engine_mvs.Network.load(weights)
        self.name = "engine"

    def input_adapter(
        self, images: Any, keyview_idx: Any, poses: Any, intrinsics: Any, depth_range: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Photos as bytes in the order key view, sources; K with pixel centres at integers."""
        key = int(np.ravel(keyview_idx)[0])
        order = [key, *(i for i in range(len(images)) if i != key)]
        photos = [np.clip(np.rint(images[i][0].transpose(1, 2, 0)), 0, 255).astype(np.uint8) for i in order]
        k = np.stack([np.asarray(intrinsics[i][0], np.float64) for i in order])
        k[:, :2, 2] -= 0.5
        views = np.stack([np.asarray(poses[i][0], np.float64) for i in order])
        if depth_range is None:
            centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in views]
            baseline = max(float(np.linalg.norm(centre - centres[0])) for centre in centres[1:])
            near, far = (factor * baseline for factor in RANGE_IN_BASELINES)
        else:
            near, far = (float(np.ravel(end)[0]) for end in depth_range)
        return {"photos": photos, "K": k, "poses": views, "depth_range": (near, far)}

    def __call__(self, photos: Any, K: Any, poses: Any, depth_range: tuple[float, float]) -> Any:
        features = [self.network.features(photo) for photo in photos]
        return self.network.depth(features, K, poses, depth_range, planes=PLANES)

    def output_adapter(self, output: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Uncertainty is one minus the probability that the depth is right."""
        depth, confidence = (np.asarray(part)[np.newaxis, np.newaxis] for part in output)
        return {"depth": depth, "depth_uncertainty": 1.0 - confidence}, {}


try:
    from rmvd import register_model  # type: ignore[import-not-found]
except ImportError:
    pass
else:

    def engine(weights: str | None = None, **_: Any) -> EngineModel:
        """The engine with its built-in weights, or those of a file."""
        return EngineModel(weights)

    register_model(trainable=False)(engine)
