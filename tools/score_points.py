"""Scores depth maps against the points of a COLMAP model.

    python tools/score_points.py SCENE OUT [--scale auto|S] [--min-track 4] [--max-error 0.6] [--at-least PERCENT]

For every registered view with a map OUT/depth/STEM.pfm, take the points it observes whose track has at least
--min-track views and whose mean reprojection error is below --max-error pixels. Project each into the map and compare
the map's depth there (bilinear) with the point's. Prints for each view, and as the mean over views, the median of
|d - z| / z and the shares under 0.2 %, 0.5 % and 1 %, in percent.

Map pixel i lies at pixel 4 i of the (possibly reduced) image, whose pixel centres are integers; COLMAP's pixel centres
end in .5. So a position u in COLMAP's image is (u * scale - 0.5) / 4 in the map, where scale = reduced size / stored
size. `auto` takes the scale that explains the map's size: the one of 1, 1/2, 1/3, ... for which
ceil(ceil(side * scale) / 4) is the map's side, else the ratio of the widths. It is not needed if a manifest states the
map's camera.

The engine undistorts images with distortion before it matches them. So the pinhole camera that OUT/manifest.json states
for the view's map (views[].map_k) projects the points, else the calibration's own focal lengths and principal point
without its distortion.

Points that fall outside the map, or where one of the four neighbours holds no depth (0 or not finite), count as
`missing`. With --missing-fails they count as errors in the shares (not in the median); by default they are left out.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import pycolmap


def read_pfm(path: Path) -> np.ndarray:
    """[height, width] float32, top row first."""
    with open(path, "rb") as file:
        kind = file.readline().strip()
        if kind != b"Pf":
            raise SystemExit(f"{path}: first line is {kind!r}, expected b'Pf' (one channel)")
        width, height = map(int, file.readline().split())
        order = "<" if float(file.readline()) < 0 else ">"
        data = np.frombuffer(file.read(), order + "f4")
    if data.size != width * height:
        raise SystemExit(f"{path}: {data.size} values for {width} x {height} pixels")
    return data.reshape(height, width)[::-1].astype(np.float32)


def find_model(scene: Path) -> pycolmap.Reconstruction:
    """The model with most images among SCENE, SCENE/sparse and its numbered folders, SCENE/dense/sparse."""
    folders = [scene, scene / "sparse", *sorted(scene.glob("sparse/*/")), scene / "dense/sparse"]
    folders = [f for f in folders if any((f / f"images.{ext}").exists() for ext in ("bin", "txt"))]
    if not folders:
        raise SystemExit(f"{scene}: no COLMAP model (images.bin or images.txt in sparse/, sparse/0/ or dense/sparse/)")
    models = [pycolmap.Reconstruction(str(f)) for f in folders]
    return max(models, key=lambda m: m.num_reg_images())


def manifest_cameras(out: Path) -> dict:
    """View name -> 3 x 3 K of its map (pixel centres are integers), where the manifest tells."""
    path = out / "manifest.json"
    if not path.exists():
        return {}
    views = json.loads(path.read_text()).get("views", [])
    return {v["name"]: np.array(v["map_k"], float).reshape(3, 3) for v in views if "map_k" in v}


def auto_scale(camera: pycolmap.Camera, map_shape: tuple) -> float:
    """Reduced size / stored size, from the map's size."""
    height, width = map_shape
    quarter = lambda side, scale: math.ceil(math.ceil(side * scale - 1e-9) / 4)
    for divisor in range(1, 17):
        scale = 1 / divisor
        if abs(quarter(camera.width, scale) - width) <= 1 and abs(quarter(camera.height, scale) - height) <= 1:
            return scale
    # Not a whole divisor (--max-side): the mean of the two ratios, each good to 4 pixels of the reduced image.
    across, down = 4 * width / camera.width, 4 * height / camera.height
    if abs(across / down - 1) > 0.05:
        raise SystemExit(
            f"map of {width} x {height} does not fit an image of {camera.width} x {camera.height}; give --scale"
        )
    print(
        f"note: scale {across:.4f} taken from the map's width; give --scale if the images were not reduced evenly",
        file=sys.stderr,
    )
    return across


def project(points: np.ndarray, camera: pycolmap.Camera, shape: tuple, scale, stated) -> np.ndarray:
    """[n, 3] in the camera's frame -> [n, 2] in the map."""
    if stated is not None and scale == "auto":
        q = points @ stated.T
        return q[:, :2] / q[:, 2:]
    q = points @ camera.calibration_matrix().T
    s = auto_scale(camera, shape) if scale == "auto" else float(scale)
    return (q[:, :2] / q[:, 2:] * s - 0.5) / 4


def bilinear(depth: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Depth at [n, 2] (x, y); NaN outside and where a neighbour holds none."""
    height, width = depth.shape
    valid = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float64)
    low = np.floor(at).astype(int)
    inside = (low[:, 0] >= 0) & (low[:, 1] >= 0) & (low[:, 0] < width - 1) & (low[:, 1] < height - 1)
    x, y = np.where(inside[:, None], low, 0).T
    fx, fy = (at - low).T
    top = valid[y, x] * (1 - fx) + valid[y, x + 1] * fx
    bottom = valid[y + 1, x] * (1 - fx) + valid[y + 1, x + 1] * fx
    return np.where(inside, top * (1 - fy) + bottom * fy, np.nan)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="See the head of the file for the rule."
    )
    parser.add_argument("scene", type=Path, help="folder with the COLMAP model")
    parser.add_argument("out", type=Path, help="folder with depth/*.pfm")
    parser.add_argument("--maps", default="depth", help="subfolder of OUT with the maps")
    parser.add_argument("--scale", default="auto", help="reduced size / stored size of the images")
    parser.add_argument("--min-track", type=int, default=4, help="views that a point must be seen in")
    parser.add_argument("--max-error", type=float, default=0.6, help="mean reprojection error in pixels")
    parser.add_argument("--missing-fails", action="store_true", help="points without depth count against the shares")
    parser.add_argument(
        "--min-confidence", type=float, help="leave out points where OUT/confidence is lower (counted as missing)"
    )
    parser.add_argument("--at-least", type=float, help="exit 1 if less than this percentage lies under 1 %%")
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args()

    model = find_model(args.scene)
    stated = manifest_cameras(args.out)
    rows = {}
    for image in sorted(model.images.values(), key=lambda i: i.name):
        name = Path(image.name).stem
        path = args.out / args.maps / f"{name}.pfm"
        if not path.exists():
            continue
        depth = read_pfm(path)
        points = [model.points3D[p.point3D_id] for p in image.points2D if p.has_point3D()]
        points = [p for p in points if p.track.length() >= args.min_track and p.error < args.max_error]
        if not points:
            continue
        pose = (image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world).matrix()
        xyz = np.array([p.xyz for p in points]) @ pose[:, :3].T + pose[:, 3]
        xyz = xyz[xyz[:, 2] > 0]
        at = project(xyz, model.cameras[image.camera_id], depth.shape, args.scale, stated.get(name))
        found = bilinear(depth, at)
        if args.min_confidence is not None:
            confidence = bilinear(read_pfm(args.out / "confidence" / f"{name}.pfm"), at)
            found = np.where(confidence >= args.min_confidence, found, np.nan)
        error = np.abs(found - xyz[:, 2]) / xyz[:, 2]
        has = np.isfinite(error)
        counted = np.where(has, error, np.inf) if args.missing_fails else error[has]
        if not has.any():
            continue
        shares = [100 * float(np.mean(counted < t)) for t in (0.002, 0.005, 0.01)]
        rows[name] = [len(xyz), 100 * float(np.mean(~has)), 100 * float(np.median(error[has])), *shares]
    if not rows:
        raise SystemExit(
            f"{args.out}/{args.maps}: no map named after a registered image of {args.scene} has a usable point"
        )

    head = ["points", "missing %", "median %", "< 0.2 %", "< 0.5 %", "< 1 %"]
    wide = max(len(n) for n in [*rows, "mean"])
    print(" " * wide + "".join(f"{h:>11}" for h in head))
    for name, row in rows.items():
        print(f"{name:<{wide}}{row[0]:>11}" + "".join(f"{v:>11.2f}" for v in row[1:]))
    mean = np.mean(list(rows.values()), 0)
    print(f"{'mean':<{wide}}{mean[0]:>11.0f}" + "".join(f"{v:>11.2f}" for v in mean[1:]))
    if args.json:
        table = {n: dict(zip(head, r)) for n, r in rows.items()} | {"mean": dict(zip(head, mean.tolist()))}
        args.json.write_text(json.dumps(table, indent=1))
    if args.at_least is not None and mean[-1] < args.at_least:
        print(f"under 1 %: {mean[-1]:.1f} %, wanted at least {args.at_least} %", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
