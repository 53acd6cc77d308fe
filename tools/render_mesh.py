"""Draws a mesh of the engine as a picture: its shape as matt clay, and beside it its colours.

    python tools/render_mesh.py OUT PICTURE [--mesh FILE] [--view NAME] [--turn DEGREES] [--lift DEGREES]

OUT is a result folder (manifest.json, and mesh/mesh.ply unless --mesh names another file). The picture is taken from
the camera of one of its views, turned about the middle of what that view sees and moved back (--back FACTOR). Backs of
triangles are dark red. Needs numpy and pillow.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

TYPES = {"float": "<f4", "uchar": "u1", "double": "<f8", "int": "<i4", "uint": "<u4"}


def read_ply(path: Path):
    """Vertices as a structured array, faces as (n, 3); triangles only."""
    with open(path, "rb") as f:
        counts, fields, element, listed = {}, {}, "", {}
        while (line := f.readline().decode().split()) != ["end_header"]:
            if line[0] == "element":
                element = line[1]
                counts[element], fields[element] = int(line[2]), []
            elif line[0] == "property" and line[1] == "list":
                listed[element] = [("n", TYPES[line[2]]), ("v", TYPES[line[3]], 3)]
            elif line[0] == "property":
                fields[element].append((line[2], TYPES[line[1]]))
        vertices = np.fromfile(f, dtype=fields["vertex"], count=counts["vertex"])
        faces = np.fromfile(f, dtype=listed["face"] + fields["face"], count=counts["face"])
        assert (faces["n"] == 3).all(), "triangles only"
    return vertices, faces["v"].astype(np.int64)


def visible(xy, depth, faces, width, height):
    """The nearest triangle in every pixel, or -1; and its barycentric coordinates."""
    best = np.full(height * width, np.iinfo(np.uint64).max, np.uint64)
    a, b, c = (xy[faces[:, k]] for k in range(3))
    ok = (depth[faces] > 1e-6).all(1)
    low = np.ceil(np.minimum(np.minimum(a, b), c)).astype(int)
    high = np.floor(np.maximum(np.maximum(a, b), c)).astype(int)
    ok &= (high >= 0).all(1) & (low[:, 0] < width) & (low[:, 1] < height) & (high >= low).all(1)
    inverse = 1 / np.maximum(depth, 1e-9)

    def weights(index, x, y):
        pa, pb, pc = a[index], b[index], c[index]
        area = (pb[:, 0] - pa[:, 0]) * (pc[:, 1] - pa[:, 1]) - (pb[:, 1] - pa[:, 1]) * (pc[:, 0] - pa[:, 0])
        area = np.where(area == 0, 1e-12, area)
        side = lambda p, q: ((q[:, 0] - p[:, 0]) * (y - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0])) / area
        return np.stack([side(pb, pc), side(pc, pa), side(pa, pb)], 1)

    def put(index, x, y):
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        index, x, y = index[inside], x[inside], y[inside]
        w = weights(index, x, y)
        inside = (w >= -1e-6).all(1)
        index, x, y, w = index[inside], x[inside], y[inside], w[inside]
        z = 1 / (w * inverse[faces[index]]).sum(1)
        key = z.astype(np.float32).view(np.uint32).astype(np.uint64) << np.uint64(32) | index.astype(np.uint64)
        np.minimum.at(best, y * width + x, key)

    size = (high - low).max(1) + 1
    small = np.flatnonzero(ok & (size <= 24))
    limits = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)
    for above, limit in zip(limits, limits[1:]):
        group = small[(size[small] > above) & (size[small] <= limit)]
        for dy in range(limit):
            for dx in range(limit):
                if len(group):
                    put(group, low[group, 0] + dx, low[group, 1] + dy)
    for index in np.flatnonzero(ok & (size > 24)):
        (x0, y0), (x1, y1) = np.maximum(low[index], 0), np.minimum(high[index], (width - 1, height - 1))
        y, x = np.mgrid[y0 : y1 + 1, x0 : x1 + 1]
        put(np.full(x.size, index), x.ravel(), y.ravel())
    hit = best != np.iinfo(np.uint64).max
    index = np.where(hit, best & np.uint64(0xFFFFFFFF), 0).astype(np.int64)
    pixels = np.flatnonzero(hit)
    share = np.zeros((height * width, 3))
    share[pixels] = weights(index[pixels], pixels % width, pixels // width) * inverse[faces[index[pixels]]]
    share[pixels] /= share[pixels].sum(1, keepdims=True)
    return np.where(hit, index, -1), share


def draw(xyz, normals, colours, faces, camera, size):
    """Clay and colours, (height, width, 3) each, of 2 x 2 samples a pixel."""
    rotation, translation, focal, centre = camera
    width, height = 2 * size[0], 2 * size[1]
    at = xyz @ rotation.T + translation
    xy = at[:, :2] / np.maximum(at[:, 2:], 1e-9) * focal * 2 + (np.array(centre) * 2 + 0.5)
    triangle, share = visible(xy, at[:, 2], faces, width, height)
    hit = triangle >= 0
    corner = faces[np.maximum(triangle, 0)]
    mix = lambda values: (values[corner] * share[:, :, None]).sum(1)
    normal = mix(normals @ rotation.T)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    p = at[corner]
    flat = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    front = (flat * p[:, 0]).sum(1) < 0
    # One lamp from above left behind the camera, and light from all around.
    lamp = np.array([-0.45, -0.6, -0.66])
    light = 0.28 + 0.2 * (0.5 - 0.5 * normal[:, 1]) + 0.6 * np.clip(normal @ lamp, 0, 1)
    clay = np.array([226, 220, 210]) * light[:, None]
    clay[~front] = np.array([120, 40, 40]) * light[~front, None]
    pictures = [clay, mix(colours.astype(float))]
    for picture in pictures:
        picture[~hit] = 255
    return [
        np.clip(p.reshape(size[1], 2, size[0], 2, 3).mean((1, 3)), 0, 255).astype(np.uint8) for p in pictures
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--mesh", type=Path, help="default: OUT/mesh/mesh.ply")
    parser.add_argument("--view", help="default: the middle one")
    parser.add_argument("--turn", type=float, default=0, help="degrees about the view's vertical axis")
    parser.add_argument("--lift", type=float, default=0, help="degrees about the view's horizontal axis")
    parser.add_argument("--back", type=float, default=1.0, help="distance as a multiple of the view's own")
    parser.add_argument("--width", type=int, default=800, help="of each of the two pictures")
    parser.add_argument("--zoom", type=float, default=1.0)
    parser.add_argument("--quality", type=int, default=88)
    args = parser.parse_args()

    views = json.loads((args.out / "manifest.json").read_text())["views"]
    view = next(v for v in views if v["name"] == (args.view or views[len(views) // 2]["name"]))
    rotation, translation = np.array(view["rotation"]), np.array(view["translation"])
    scale = args.width / view["photo_size"][0]
    size = (args.width, round(view["photo_size"][1] * scale))
    focal = view["photo_k"][0][0] * scale * args.zoom

    vertices, faces = read_ply(args.mesh or args.out / "mesh" / "mesh.ply")
    xyz = np.stack([vertices[a] for a in "xyz"], -1).astype(float)
    normals = np.stack([vertices[a] for a in ("nx", "ny", "nz")], -1).astype(float)
    if "red" in vertices.dtype.names:
        colours = np.stack([vertices[c] for c in ("red", "green", "blue")], -1)
    else:
        colours = np.full((len(xyz), 3), 160)
    depth = (xyz @ rotation.T + translation)[:, 2]
    middle = np.array([0, 0, np.median(depth)])
    a, b = math.radians(args.turn), math.radians(args.lift)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    lift = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    moved = lift @ turn
    camera = (moved @ rotation, moved @ (translation - middle) + middle * args.back, focal, (size[0] / 2, size[1] / 2))
    pictures = draw(xyz, normals, colours, faces, camera, size)
    Image.fromarray(np.concatenate(pictures, 1)).save(args.picture, optimize=True, quality=args.quality)


if __name__ == "__main__":
    main()
