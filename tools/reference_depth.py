"""Runs the reference network over a COLMAP scene, so that the engine's maps can be compared with it pixel by pixel.

    python tools/reference_depth.py SCENE OUT [--halvings 1] [--views 4] [--planes 128] [--sampling inverse] [--threads 2]

One level, no pyramid, no fusion. Images are halved --halvings times by averaging 2 x 2 pixels (K with the half-pixel shift that this means); the
sources of a view are the views that share most points with it; its range is 0.9 times the 1st to 1.1 times the 99th percentile (elements
floor(0.01 n) and floor(0.99 n) of the sorted depths) of the points that it observes. Pinhole models only. Writes OUT/depth/*.pfm, OUT/confidence/*.pfm and
OUT/reference.json: for each view its sources, range, K, seconds. --pairs-only writes that file alone, which needs no network.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pycolmap
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools/reference"))
sys.path.insert(0, str(ROOT / "tools"))
import bs_mvsnet as ref  # noqa: E402
from score_points import find_model  # noqa: E402


def write_pfm(path: Path, data: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = data.shape
    path.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + np.ascontiguousarray(data[::-1], "<f4").tobytes())


def load(path: Path, halvings: int) -> np.ndarray:
    """[H, W, 3] float32 in 0..1, sides extended to multiples of 4 by repeating the edge, and the size before that."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    for _ in range(halvings):
        h, w = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        pixels = pixels[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3))
    return pixels


def padded(pixels: np.ndarray) -> torch.Tensor:
    h, w, _ = pixels.shape
    pixels = np.pad(pixels, ((0, -h % 4), (0, -w % 4), (0, 0)), "edge")
    return torch.from_numpy(pixels).permute(2, 0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--halvings", type=int, default=1)
    parser.add_argument("--views", type=int, default=4, help="reference and sources together")
    parser.add_argument("--planes", type=int, default=128)
    parser.add_argument("--sampling", choices=["inverse", "linear"], default="inverse")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights/bs_mvsnet.safetensors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs-only", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = find_model(args.scene)
    images = sorted(model.images.values(), key=lambda i: i.name)
    seen = {i.image_id: {p.point3D_id for p in i.points2D if p.has_point3D()} for i in images}
    views = []
    for image in images:
        camera = model.cameras[image.camera_id]
        if camera.model.name not in ("PINHOLE", "SIMPLE_PINHOLE"):
            raise SystemExit(f"{image.name}: camera model {camera.model.name}; this script takes undistorted images only")
        pose = (image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world).matrix()
        scale = 0.5**args.halvings
        k = camera.calibration_matrix()
        k[:2] *= scale  # COLMAP's corner pixel has its centre at 0.5, and areas map to areas
        k[:2, 2] -= 0.5
        e = np.eye(4)
        e[:3] = pose
        ids = sorted(seen[image.image_id])
        z = np.sort(np.array([model.points3D[i].xyz for i in ids]) @ pose[2, :3] + pose[2, 3])
        shared = sorted((i for i in images if i is not image), key=lambda i: (-len(seen[i.image_id] & seen[image.image_id]), i.name))
        views.append({
            "name": Path(image.name).stem,
            "file": image.name,
            "sources": [Path(i.name).stem for i in shared[: args.views - 1]],
            "shared_points": [len(seen[i.image_id] & seen[image.image_id]) for i in shared[: args.views - 1]],
            "near": 0.9 * float(z[int(0.01 * len(z))]),
            "far": 1.1 * float(z[min(int(0.99 * len(z)), len(z) - 1)]),
            "k": k.tolist(),
            "world_to_camera": e.tolist(),
        })
    settings = {"planes": args.planes, "sampling": args.sampling, "views": args.views, "halvings": args.halvings, "torch": torch.__version__, "threads": args.threads}
    record = lambda: (args.out / "reference.json").write_text(json.dumps(settings | {"views_run": views}, indent=1))
    args.out.mkdir(parents=True, exist_ok=True)
    record()
    if args.pairs_only:
        return

    net = ref.BsMvsNet()
    net.load_state_dict(load_file(str(args.weights)))
    net.eval()
    photos = {v["name"]: load(args.scene / "images" / v["file"], args.halvings) for v in views}
    cameras = {v["name"]: v for v in views}
    for view in views:
        names = [view["name"], *view["sources"]]
        if len({photos[n].shape for n in names}) > 1:
            raise SystemExit(f"{view['name']}: images of different sizes among {names}; the reference takes equal sizes only")
        h, w, _ = photos[names[0]].shape
        batch = torch.stack([padded(photos[n]) for n in names])
        k = torch.tensor([cameras[n]["k"] for n in names], dtype=torch.float64)
        e = torch.tensor([cameras[n]["world_to_camera"] for n in names], dtype=torch.float64)
        inverse = args.sampling == "inverse"
        depths = ref.depth_hypotheses(view["near"], view["far"], args.planes, inverse)
        with torch.inference_mode():
            began = time.perf_counter()
            depth, confidence, _ = net(batch, k, e, depths, inverse)
            view["seconds"] = round(time.perf_counter() - began, 3)
        crop = slice(0, -(-h // 4)), slice(0, -(-w // 4))
        write_pfm(args.out / "depth" / f"{view['name']}.pfm", depth[crop].numpy())
        write_pfm(args.out / "confidence" / f"{view['name']}.pfm", confidence[crop].numpy())
        record()
        print(f"{view['name']}: {view['seconds']} s, sources {' '.join(view['sources'])}, {view['near']:.4f} to {view['far']:.4f}", flush=True)


if __name__ == "__main__":
    main()
