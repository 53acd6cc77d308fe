"""Draws a point cloud of the engine as a picture.

    python tools/render_cloud.py OUT PICTURE [--view NAME] [--turn DEGREES] [--back FACTOR]

OUT is a result folder (fused.ply and manifest.json). The picture is taken from the camera of one of its views, turned
about the middle of what that view sees and moved back. Points are small squares; nearer ones hide farther ones. Needs
numpy and pillow.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

TYPES = {"float": "<f4", "uchar": "u1"}


def read_ply(path: Path) -> np.ndarray:
    with open(path, "rb") as f:
        count, fields = 0, []
        while (line := f.readline().decode().split()) != ["end_header"]:
            if line[:2] == ["element", "vertex"]:
                count = int(line[2])
            elif line[0] == "property":
                fields.append((line[2], TYPES[line[1]]))
        return np.frombuffer(f.read(), dtype=fields, count=count)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--view", help="default: the middle one")
    parser.add_argument("--turn", type=float, default=0, help="degrees about the view's vertical axis")
    parser.add_argument("--lift", type=float, default=0, help="degrees about the view's horizontal axis")
    parser.add_argument("--back", type=float, default=1.0, help="distance as a multiple of the view's own")
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--radius", type=int, default=1, help="pixels around a point's own")
    args = parser.parse_args()

    views = json.loads((args.out / "manifest.json").read_text())["views"]
    view = next(v for v in views if v["name"] == (args.view or views[len(views) // 2]["name"]))
    rotation, translation = np.array(view["rotation"]), np.array(view["translation"])
    focal, (full_width, full_height) = view["photo_k"][0][0], view["photo_size"]
    scale = args.width / full_width
    width, height, focal = args.width, round(full_height * scale), focal * scale

    points = read_ply(args.out / "fused.ply")
    world = np.stack([points[a] for a in "xyz"], -1).astype(float)
    colours = np.stack([points[c] for c in ("red", "green", "blue")], -1)
    # In the view's frame, turned about the middle of what it sees.
    at = world @ rotation.T + translation
    middle = np.array([0, 0, np.median(at[:, 2])])
    a, b = math.radians(args.turn), math.radians(args.lift)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    lift = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    at = (at - middle) @ (lift @ turn).T + middle * args.back

    front = at[:, 2] > 1e-6
    at, colours = at[front], colours[front]
    x = np.rint(at[:, 0] / at[:, 2] * focal + width / 2).astype(int)
    y = np.rint(at[:, 1] / at[:, 2] * focal + height / 2).astype(int)
    order = np.argsort(-at[:, 2])  # far to near: later ones paint over earlier ones
    x, y, colours = x[order], y[order], colours[order]
    picture = np.full((height, width, 3), 255, np.uint8)
    offsets = range(-args.radius, args.radius + 1)
    # A point's own pixel wins over its neighbours' margins only if nearer, so all offsets are painted point by point in
    # order.
    xs = np.stack([x + dx for dy in offsets for dx in offsets], 1).ravel()
    ys = np.stack([y + dy for dy in offsets for dx in offsets], 1).ravel()
    inside = (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)
    picture[ys[inside], xs[inside]] = np.repeat(colours, len(offsets) ** 2, 0)[inside]
    Image.fromarray(picture).save(args.picture, optimize=True)


if __name__ == "__main__":
    main()
