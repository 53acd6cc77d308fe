"""How often depths are right, by confidence, at the points of a COLMAP model.

    python tools/score_confidence.py SCENE OUT [--bins 10]

Takes the points as score_points.py does, in every view with a map of the photo's own (reduced) size. A depth is right
where |1 / depth - 1 / truth| < t, with t the change of 1 / depth that moves the point by one pixel in the middling one
of the view's source views (docs/SPEC.md, "Confidence"), here at the point itself. Prints for each bin of confidence the
share of points, their mean confidence and the share that is right, and the expected calibration error over 20 bins.

Sparse points are no fair sample of pixels: they lie where there is texture, and are exact to some 0.2 pixels only.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from score_points import bilinear, find_model, read_pfm


def camera(view: dict) -> tuple:
    """K of the map, rotation and translation."""
    return tuple(np.array(view[key], float) for key in ("map_k", "rotation", "translation"))


def pixels_per_rho(xyz: np.ndarray, reference: tuple, source: tuple) -> np.ndarray:
    """[n, 3] in the reference's frame -> [n] pixels that each moves by in the source per unit of 1 / depth."""
    (_, r0, t0), (k1, r1, t1) = reference, source
    r = r1 @ r0.T
    a, b = xyz / xyz[:, 2:] @ (k1 @ r).T, k1 @ (t1 - r @ t0)
    rho = 1 / xyz[:, 2]
    q = a + rho[:, None] * b
    along = (b[:2] - q[:, :2] / q[:, 2:] * b[2]) / q[:, 2:]
    return np.linalg.norm(along, axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="See the head of the file.")
    parser.add_argument("scene", type=Path, help="folder with the COLMAP model")
    parser.add_argument("out", type=Path, help="folder of a run of engine infer")
    parser.add_argument("--bins", type=int, default=10)
    parser.add_argument("--min-track", type=int, default=4)
    parser.add_argument("--max-error", type=float, default=0.6)
    args = parser.parse_args()

    model = find_model(args.scene)
    views = {v["name"]: v for v in json.loads((args.out / "manifest.json").read_text())["views"]}
    confidences, right = [], []
    for image in model.images.values():
        view = views.get(Path(image.name).stem)
        if view is None:
            continue
        points = [model.points3D[p.point3D_id] for p in image.points2D if p.has_point3D()]
        points = [p.xyz for p in points if p.track.length() >= args.min_track and p.error < args.max_error]
        sources = [views[name] for name in view["depth"]["sources"] if name in views]
        if not points or not sources:
            continue
        own = camera(view)
        xyz = np.array(points) @ own[1].T + own[2]
        xyz = xyz[xyz[:, 2] > 0]
        q = xyz @ own[0].T
        at = q[:, :2] / q[:, 2:]
        depth = bilinear(read_pfm(args.out / "depth" / f"{view['name']}.pfm"), at)
        confidence = bilinear(read_pfm(args.out / "confidence" / f"{view['name']}.pfm"), at)
        # The upper one of two in the middle.
        motion = np.sort([pixels_per_rho(xyz, own, camera(source)) for source in sources], axis=0)[len(sources) // 2]
        has = np.isfinite(depth) & np.isfinite(confidence)
        confidences.append(confidence[has])
        right.append((np.abs(1 / depth - 1 / xyz[:, 2]) * motion < 1)[has])
    if not confidences:
        raise SystemExit(f"{args.out}: no view of {args.scene} with points and sources")
    confidence, right = np.concatenate(confidences), np.concatenate(right)

    def bins(count: int):
        place = np.minimum((confidence * count).astype(int), count - 1)
        for at in range(count):
            inside = place == at
            if inside.any():
                yield at, inside.mean(), confidence[inside].mean(), right[inside].mean()

    print("confidence      points %      mean     right")
    for at, share, mean, good in bins(args.bins):
        print(f"{at / args.bins:.2f} to {(at + 1) / args.bins:.2f}{100 * share:>13.1f}{mean:>10.3f}{good:>10.3f}")
    error = sum(share * abs(mean - good) for _, share, mean, good in bins(20))
    print(f"{len(right)} points, {100 * right.mean():.1f} % right, expected calibration error {100 * error:.2f} %")


if __name__ == "__main__":
    main()
