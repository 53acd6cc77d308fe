"""Runs the reference network over a COLMAP scene, so that the engine's maps can be compared with it pixel by pixel.

    python tools/reference_depth.py SCENE OUT [--halvings 1] [--views 4] [--planes 128] [--sampling inverse]
        [--threads 2]

One level, no pyramid, no fusion. Images are halved --halvings times by averaging 2 x 2 pixels (with the half-pixel
shift of K that this means). The sources of a view are the views that share most points with it. Its range is 0.9 times
the 1st to 1.1 times the 99th percentile (elements floor(0.01 n) and floor(0.99 n) of the sorted depths) of the points
that it observes. Pinhole models only. Writes OUT/depth/*.pfm, OUT/confidence/*.pfm and OUT/reference.json: for each
view its sources, range, K, seconds. --pairs-only writes that file alone.

--write-scene FOLDER also writes the same views, sources and ranges as an MVSNet scene (full-size images, linked), so
that the engine can do the very same work: engine infer FOLDER --max-side HALVED_WIDTH --levels 1 --views 4 --sampling
inverse. --compare OUT2 prints how far OUT2/depth lies from OUT/depth, in hypothesis intervals (of 1/depth if inverse).
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
from score_points import find_model, read_pfm  # noqa: E402


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


def write_scene(folder: Path, scene: Path, views: list, halvings: int, planes: int):
    for sub in ("images", "cams"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    index = {v["name"]: i for i, v in enumerate(views)}
    pairs = [str(len(views))]
    words = lambda rows: "".join(" ".join(repr(float(x)) for x in row) + "\n" for row in rows)
    for i, view in enumerate(views):
        link = folder / "images" / f"{i:08}{Path(view['file']).suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to((scene / "images" / view["file"]).resolve())
        k = np.array(view["k"])
        k[:2, 2] += 0.5
        k[:2] *= 2**halvings
        k[:2, 2] -= 0.5
        interval = (view["far"] - view["near"]) / (planes - 1)
        text = (
            f"extrinsic\n{words(view['world_to_camera'])}\nintrinsic\n{words(k)}\n"
            f"{view['near']!r} {interval!r} {planes} {view['far']!r}\n"
        )
        (folder / "cams" / f"{i:08}_cam.txt").write_text(text)
        sources = [f"{index[s]} {n}" for s, n in zip(view["sources"], view["shared_points"])]
        pairs += [str(i), " ".join([str(len(sources)), *sources])]
    (folder / "pair.txt").write_text("\n".join(pairs) + "\n")


def compare(views: list, out: Path, other: Path, planes: int, inverse: bool):
    for i, view in enumerate(views):
        path = next((p for n in (view["name"], f"{i:08}") if (p := other / "depth" / f"{n}.pfm").exists()), None)
        if path is None:
            continue
        a, b = read_pfm(out / "depth" / f"{view['name']}.pfm"), read_pfm(path)
        near, far = view["near"], view["far"]
        steps = np.abs(1 / a - 1 / b) / abs(1 / near - 1 / far) if inverse else np.abs(a - b) / (far - near)
        q = np.quantile(steps * (planes - 1), [0.5, 0.99, 0.999, 1])
        print(f"{view['name']}: median {q[0]:.1e}, 99 % {q[1]:.1e}, 99.9 % {q[2]:.1e}, largest {q[3]:.1e} intervals")


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
    parser.add_argument("--write-scene", type=Path)
    parser.add_argument("--compare", type=Path, help="compare the maps that OUT holds with these; run nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = find_model(args.scene)
    images = sorted(model.images.values(), key=lambda i: i.name)
    seen = {i.image_id: {p.point3D_id for p in i.points2D if p.has_point3D()} for i in images}
    views = []
    for image in images:
        camera = model.cameras[image.camera_id]
        if camera.model.name not in ("PINHOLE", "SIMPLE_PINHOLE"):
            raise SystemExit(
                f"{image.name}: camera model {camera.model.name}; this script takes undistorted images only"
            )
        pose = (image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world).matrix()
        scale = 0.5**args.halvings
        k = camera.calibration_matrix()
        k[:2] *= scale  # COLMAP's corner pixel has its centre at 0.5, and areas map to areas
        k[:2, 2] -= 0.5
        e = np.eye(4)
        e[:3] = pose
        ids = sorted(seen[image.image_id])
        z = np.sort(np.array([model.points3D[i].xyz for i in ids]) @ pose[2, :3] + pose[2, 3])
        shared = sorted(
            (i for i in images if i is not image), key=lambda i: (-len(seen[i.image_id] & seen[image.image_id]), i.name)
        )
        views.append(
            {
                "name": Path(image.name).stem,
                "file": image.name,
                "sources": [Path(i.name).stem for i in shared[: args.views - 1]],
                "shared_points": [len(seen[i.image_id] & seen[image.image_id]) for i in shared[: args.views - 1]],
                "near": 0.9 * float(z[int(0.01 * len(z))]),
                "far": 1.1 * float(z[min(int(0.99 * len(z)), len(z) - 1)]),
                "k": k.tolist(),
                "world_to_camera": e.tolist(),
            }
        )
    settings = {
        "planes": args.planes,
        "sampling": args.sampling,
        "views": args.views,
        "halvings": args.halvings,
        "torch": torch.__version__,
        "threads": args.threads,
    }
    record = lambda: (args.out / "reference.json").write_text(json.dumps(settings | {"views_run": views}, indent=1))
    if args.write_scene:
        write_scene(args.write_scene, args.scene, views, args.halvings, args.planes)
    if args.compare:
        compare(views, args.out, args.compare, args.planes, args.sampling == "inverse")
        return
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
            raise SystemExit(
                f"{view['name']}: images of different sizes among {names}; the reference takes equal sizes only"
            )
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
        print(
            f"{view['name']}: {view['seconds']} s, sources {' '.join(view['sources'])}, "
            f"{view['near']:.4f} to {view['far']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
