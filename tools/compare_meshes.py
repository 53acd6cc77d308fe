"""Compares `engine mesh` with COLMAP's Poisson meshing of the same run's cloud, against true depth.

    python tools/compare_meshes.py OUT TRUTH [--engine PROGRAM] [--trim 5,7,10] [--more "OPTIONS"]

OUT is the folder of a run; TRUTH holds true depth maps of every fourth pixel as PFM, named by the views' ids (as
examples/scene/truth, or depths/ of `engine synth`). Both meshes are made in this run and timed. Needs numpy, scipy,
trimesh and pycolmap.

Accuracy is the share of the mesh's area within a distance of the true surface, completeness the share of the true
surface within that distance of the mesh; F is their harmonic mean. Distances are one and two voxels of our mesh. What
no view can see of a mesh (outside all photos, or farther behind the true surface than three voxels in all of them) is
left out: nothing is known of it. The true surface are the true depth maps' pixels with the normals of their
neighbours: a sample of a mesh lies off by its distance to the nearest pixel's plane, and by what it lies beside the
pixel's own patch.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pycolmap
import trimesh
from scipy.spatial import cKDTree


def read_pfm(path: Path) -> np.ndarray:
    with open(path, "rb") as f:
        assert f.readline().strip() == b"Pf", path
        width, height = map(int, f.readline().split())
        kind = "<f4" if float(f.readline()) < 0 else ">f4"
        return np.frombuffer(f.read(), kind).reshape(height, width)[::-1].astype(float)


class View:
    """A true depth map with its camera."""

    def __init__(self, view, truth: Path):
        self.depth = read_pfm(next(p for p in truth.glob("*.pfm") if p.stem in (view["name"], f"{view['id']:08}")))
        # Of every fourth pixel of the photo, aligned at the first one.
        step = round(view["photo_size"][0] / self.depth.shape[1])
        self.k = np.diag([1 / step, 1 / step, 1]) @ np.array(view["photo_k"])
        self.r, self.t = np.array(view["rotation"]), np.array(view["translation"])
        y, x = np.mgrid[: self.depth.shape[0], : self.depth.shape[1]]
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(self.k).T
        self.points = (rays * self.depth[..., None] - self.t) @ self.r
        # Normals of the plane through the neighbours, where these are on one surface.
        p, d = self.points, self.depth
        normals = np.zeros_like(p)
        cross = np.cross(p[1:-1, 2:] - p[1:-1, :-2], p[2:, 1:-1] - p[:-2, 1:-1])
        length = np.linalg.norm(cross, axis=-1, keepdims=True)
        normals[1:-1, 1:-1] = cross / np.maximum(length, 1e-30)
        around = np.stack([d[1:-1, 1:-1], d[1:-1, 2:], d[1:-1, :-2], d[2:, 1:-1], d[:-2, 1:-1]])
        smooth = (around.min(0) > 0) & (np.ptp(around, axis=0) < 0.05 * around.max(0))
        normals[1:-1, 1:-1][~smooth] = 0
        self.normals, self.pixel = normals, d / self.k[0, 0]

    def judges(self, points: np.ndarray, slack: float) -> np.ndarray:
        """Whether the view says anything of a point: that it is on what it sees, or before it."""
        q = (points @ self.r.T + self.t) @ self.k.T
        z = np.maximum(q[:, 2], 1e-9)
        x, y = np.rint(q[:, 0] / z).astype(int), np.rint(q[:, 1] / z).astype(int)
        inside = (q[:, 2] > 1e-9) & (x >= 0) & (y >= 0) & (x < self.depth.shape[1]) & (y < self.depth.shape[0])
        depth = self.depth[np.clip(y, 0, self.depth.shape[0] - 1), np.clip(x, 0, self.depth.shape[1] - 1)]
        return inside & ((depth == 0) | (q[:, 2] < depth + slack))


def score(mesh, views, voxel: float, count: int) -> dict:
    samples, _ = trimesh.sample.sample_surface(mesh, count, seed=1)
    judged = np.zeros(len(samples), bool)
    for view in views:
        judged |= view.judges(samples, 3 * voxel)
    samples = samples[judged]
    there = [v.depth > 0 for v in views]
    truth = np.concatenate([v.points[m] for v, m in zip(views, there)])
    normals = np.concatenate([v.normals[m] for v, m in zip(views, there)])
    pixel = np.concatenate([v.pixel[m] for v, m in zip(views, there)])
    _, nearest = cKDTree(truth).query(samples)
    apart = samples - truth[nearest]
    along = np.abs((apart * normals[nearest]).sum(1))
    beside = np.sqrt(np.maximum((apart**2).sum(1) - along**2, 0))
    off = np.hypot(along, np.maximum(beside - pixel[nearest], 0))
    dense, _ = trimesh.sample.sample_surface(mesh, 4 * count, seed=2)
    missed, _ = cKDTree(dense).query(truth)
    result = {"triangles": len(mesh.faces), "judged": judged.mean()}
    for times in (1, 2):
        a, c = (off < times * voxel).mean(), (missed < times * voxel).mean()
        result[f"accuracy {times}"], result[f"completeness {times}"], result[f"F {times}"] = a, c, 2 * a * c / (a + c)
    result["mean off"] = off.mean() / voxel
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--engine", default="engine")
    parser.add_argument("--trim", default="5,7,10", help="Poisson's trims to try, or nothing")
    parser.add_argument("--more", default="", help="more options of engine mesh, separated by spaces")
    parser.add_argument("--samples", type=int, default=400_000)
    args = parser.parse_args()

    run = json.loads((args.out / "manifest.json").read_text())
    views = [View(view, args.truth) for view in run["views"]]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows = []
        began = time.time()
        command = [args.engine, "mesh", args.out, "-o", folder / "mesh", "--quiet", *args.more.split()]
        subprocess.run(list(map(str, command)), check=True)
        seconds = time.time() - began
        report = json.loads((folder / "mesh" / "mesh.json").read_text())
        mesh = trimesh.load(folder / "mesh" / "mesh.ply", process=False)
        rows.append(("engine mesh", seconds, score(mesh, views, report["voxel"], args.samples)))
        for trim in map(float, filter(None, args.trim.split(","))):
            options = pycolmap.PoissonMeshingOptions()
            options.trim = trim
            began = time.time()
            pycolmap.poisson_meshing(args.out / "fused.ply", folder / "poisson.ply", options)
            seconds = time.time() - began
            mesh = trimesh.load(folder / "poisson.ply", process=False)
            if not hasattr(mesh, "faces") or not len(mesh.faces):
                print(f"Poisson, trim {trim:g}: no triangles are left", file=sys.stderr)
                continue
            rows.append((f"Poisson, trim {trim:g}", seconds, score(mesh, views, report["voxel"], args.samples)))
    print(f"voxel {report['voxel']:.4g}")
    print("| mesh | seconds | triangles | F 1 | F 2 | accuracy 1, 2 | completeness 1, 2 | mean off, voxels |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, seconds, s in rows:
        print(
            f"| {name} | {seconds:.2f} | {s['triangles']} | {s['F 1']:.3f} | {s['F 2']:.3f} "
            f"| {s['accuracy 1']:.3f}, {s['accuracy 2']:.3f} | {s['completeness 1']:.3f}, {s['completeness 2']:.3f} "
            f"| {s['mean off']:.2f} |"
        )


if __name__ == "__main__":
    main()
