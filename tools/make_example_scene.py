"""Renders examples/scene (MVSNet layout) and the same scene as COLMAP models, with exact depth.

    python tools/make_example_scene.py [--scene examples/scene] [--colmap tests/data/example_colmap]

Needs numpy, pillow, pycolmap; takes about a minute.

The scene is a ray-cast still life: floor, wall, sphere, box, cylinder and an ellipsoid with solid textures made here
(value noise, veins, rings, bricks), one lamp with hard shadows, SUPERSAMPLES^2 rays a pixel. Nothing is taken from
elsewhere. Seven views stand on an arc about the objects, with two cameras of different focal lengths.

    examples/scene/images/ID.jpg, cams/ID_cam.txt, pair.txt       cam.txt ends in `near interval planes far`
    examples/scene/truth/ID.pfm                                   exact depth of every fourth pixel: the perfect map
    tests/data/example_colmap/text/{cameras,images,points3D}.txt  the same cameras and 800 points with tracks, as COLMAP
                                                                  3 writes them
    tests/data/example_colmap/binary/*.bin                        the same by pycolmap 4 (with rigs and frames)

The points lie exactly on the surfaces. Their observations are off by 0.25 pixels (standard deviation), as real ones
are. The rest is what the engine derives from the COLMAP form. Ranges are 0.9 times the 1st to 1.1 times the 99th
percentile (elements floor(0.01 n), floor(0.99 n)) of the depths of each view's own points. Pairs are scored by shared
points weighted with the triangulation angle (best at 5 degrees; deviation 1 below and 10 above). cam.txt's K has pixel
centres at integers; COLMAP's lie half a pixel further.
"""

import argparse
import math
import shutil
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, PLANES = 512, 384, 96
SUPERSAMPLES = 3
POINTS = 800
QUALITY = 90
TARGET = np.array([0.0, 0.25, 6.4])
LAMP = np.array([-3.0, -6.0, -1.0])


def quaternion(r: np.ndarray) -> np.ndarray:
    """w, x, y, z of a rotation of less than half a turn."""
    w = math.sqrt(1 + np.trace(r)) / 2
    return np.array([w, (r[2, 1] - r[1, 2]) / (4 * w), (r[0, 2] - r[2, 0]) / (4 * w), (r[1, 0] - r[0, 1]) / (4 * w)])


def matrix(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def cameras() -> list:
    """K (integer pixel centres), quaternion and t of each view.

    Rotations are those of the quaternion, so that both layouts agree.
    """
    views = []
    for i, degrees in enumerate([-15, -10, -5, 0, 5, 10, 15]):
        a = math.radians(degrees)
        height = -1.1 + 0.45 * math.cos(2.4 * i)
        centre = TARGET + np.array([6.2 * math.sin(a), height, -6.2 * math.cos(a)])
        ahead = TARGET + np.array([0.05 * math.sin(3 * i), 0.03 * i - 0.1, 0]) - centre
        ahead /= np.linalg.norm(ahead)
        roll = math.radians(1.5 * math.sin(5.1 * i))
        right = np.cross([math.sin(roll), math.cos(roll), 0], ahead)
        right /= np.linalg.norm(right)
        q = np.round(quaternion(np.stack([right, np.cross(ahead, right), ahead])), 12)
        r = matrix(q)
        camera = i % 2
        f = (640.0, 652.5)[camera]
        k = np.array([[f, 0, 255.2 + 1.4 * camera], [0, f * 1.002, 191.9 - 2.3 * camera], [0, 0, 1]])
        views.append({"id": i, "camera": camera, "k": k, "q": q, "r": r, "t": np.round(-r @ centre, 12)})
    for v in views:
        v["centre"] = -v["r"].T @ v["t"]
    return views


def hashed(x, y, z, salt):
    """Integer lattice point -> [0, 1)."""
    with np.errstate(over="ignore"):
        h = x.astype(np.uint32) * np.uint32(374761393) + y.astype(np.uint32) * np.uint32(668265263)
        h += z.astype(np.uint32) * np.uint32(2147483647 - 17) + np.uint32(salt * 1013904223 & 0xFFFFFFFF)
        for shift, factor in [(15, 2246822519), (13, 3266489917)]:
            h = (h ^ h >> np.uint32(shift)) * np.uint32(factor)
        h ^= h >> np.uint32(16)
    return h.astype(np.float64) / 2**32


def noise(p, salt):
    """Smooth value noise in 3D, wavelength about 2, mean 0.5."""
    cell = np.floor(p).astype(np.int64)
    f = p - cell
    f = f * f * (3 - 2 * f)
    total = 0
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                w = (
                    (f[:, 0] if dx else 1 - f[:, 0])
                    * (f[:, 1] if dy else 1 - f[:, 1])
                    * (f[:, 2] if dz else 1 - f[:, 2])
                )
                total = total + w * hashed(cell[:, 0] + dx, cell[:, 1] + dy, cell[:, 2] + dz, salt)
    return total


def octaves(p, first, count, salt, gain=0.62):
    total, weight = 0, 0
    for o in range(count):
        total = total + gain**o * (noise(p * first * 2**o + 7.3 * o, salt + o) - 0.5)
        weight += gain**o
    return total / weight * 2.2 + 0.5


def blend(a, b, t):
    return np.array(a) * (1 - np.clip(t, 0, 1))[:, None] + np.array(b) * np.clip(t, 0, 1)[:, None]


def granite(p):
    return (
        blend((0.16, 0.13, 0.12), (0.86, 0.72, 0.6), octaves(p, 4, 4, 11, 0.85))
        * (0.7 + 0.6 * octaves(p, 1, 2, 23))[:, None]
    )


def marble(p):
    veins = np.abs(np.sin(9 * p[:, 0] + 6 * p[:, 1] + 9 * octaves(p, 2, 5, 31, 0.75)))
    return blend((0.12, 0.2, 0.34), (0.85, 0.9, 0.92), veins**0.8) * (0.6 + 0.8 * octaves(p, 6, 3, 37, 0.9))[:, None]


def wood(p):
    rings = np.sqrt((p[:, 0] - 0.3) ** 2 + (p[:, 2] + 0.2) ** 2) * 9 + 2.5 * octaves(p * [1, 0.3, 1], 2, 3, 41)
    grain = octaves(p * [14, 1.6, 14], 1, 3, 43, 0.9)
    return (
        blend((0.3, 0.14, 0.06), (0.85, 0.55, 0.28), 0.5 + 0.45 * np.sin(2 * math.pi * rings))
        * (0.55 + 0.9 * grain)[:, None]
    )


def moss(p):
    return (
        blend((0.1, 0.2, 0.06), (0.82, 0.86, 0.3), octaves(p, 7, 4, 53, 0.9))
        * (0.6 + 0.8 * octaves(p, 1.5, 2, 59))[:, None]
    )


def tiles(p):
    """The floor: squares of 0.6, each with its own shade and grain."""
    cell = np.floor(p / 0.6).astype(np.int64)
    shade = hashed(cell[:, 0], cell[:, 2], 0 * cell[:, 0], 61)
    inside = np.abs(p / 0.6 - cell - 0.5)
    gap = np.maximum(inside[:, 0], inside[:, 2]) > 0.475
    colour = blend((0.5, 0.3, 0.22), (0.75, 0.68, 0.58), shade) * (0.35 + 1.3 * octaves(p, 6, 4, 67, 0.9))[:, None]
    return np.where(gap[:, None], 0.16 + 0.2 * octaves(p, 12, 2, 71)[:, None], colour)


def bricks(p):
    row = np.floor(p[:, 1] / 0.32).astype(np.int64)
    along = p[:, 0] / 0.8 + 0.5 * (row % 2)
    cell = np.floor(along).astype(np.int64)
    shade = hashed(cell, row, 0 * row, 73)
    mortar = (np.abs(along - cell - 0.5) > 0.47) | (np.abs(p[:, 1] / 0.32 - row - 0.5) > 0.43)
    colour = blend((0.42, 0.16, 0.1), (0.76, 0.45, 0.3), shade) * (0.3 + 1.4 * octaves(p, 5, 4, 79, 0.9))[:, None]
    return np.where(
        mortar[:, None], (0.4 + 0.5 * octaves(p, 8, 3, 83, 0.9))[:, None] * np.array([1, 0.97, 0.9]), colour
    )


def turn(degrees):
    a = math.radians(degrees)
    return np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])


# kind, centre, size, rotation, texture. Planes: a point, the normal. y points down.
OBJECTS = [
    ("plane", np.array([0, 1.0, 0]), np.array([0, -1.0, 0]), np.eye(3), tiles),
    ("plane", np.array([0, 0, 8.6]), np.array([0.12, 0, -1.0]) / np.hypot(0.12, 1), np.eye(3), bricks),
    ("ellipsoid", np.array([-0.95, 0.25, 6.0]), np.array([0.75, 0.75, 0.75]), turn(20), marble),
    ("box", np.array([0.95, 0.4, 6.35]), np.array([0.55, 0.6, 0.5]), turn(35), wood),
    ("cylinder", np.array([0.05, 0.1, 7.3]), np.array([0.42, 0.9, 0.42]), turn(0), granite),
    ("ellipsoid", np.array([0.12, 0.7, 5.25]), np.array([0.38, 0.3, 0.34]), turn(-30), moss),
]


def hit(shape, origin, direction):
    """Distance along each direction to one object (inf: none) and the normal there.

    origin [3] or [n, 3], direction [n, 3].
    """
    kind, centre, size, rotation, _ = shape
    n = len(direction)
    far = np.full(n, np.inf)
    if kind == "plane":
        along = direction @ size
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ((centre - origin) @ size) / along
        return np.where((t > 1e-6) & np.isfinite(t), t, far), np.broadcast_to(size, (n, 3))
    o = np.broadcast_to((origin - centre) @ rotation, (n, 3))
    d = direction @ rotation
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "ellipsoid":
            oo, dd = o / size, d / size
            a, b, c = (dd * dd).sum(1), (oo * dd).sum(1), (oo * oo).sum(1) - 1
            t = (-b - np.sqrt(b * b - a * c)) / a
            local = (o + d * t[:, None]) / size / size
        elif kind == "box":
            t1, t2 = (-size - o) / d, (size - o) / d
            entry, leave = np.minimum(t1, t2), np.maximum(t1, t2)
            axis = entry.argmax(1)
            t = np.where(entry.max(1) < leave.min(1), entry.max(1), np.nan)
            local = -np.sign(np.take_along_axis(d, axis[:, None], 1)) * np.eye(3)[axis]
        else:  # upright cylinder with caps
            a = d[:, 0] ** 2 + d[:, 2] ** 2
            b = o[:, 0] * d[:, 0] + o[:, 2] * d[:, 2]
            c = o[:, 0] ** 2 + o[:, 2] ** 2 - size[0] ** 2
            side = (-b - np.sqrt(b * b - a * c)) / a
            at = o + d * side[:, None]
            side = np.where(np.abs(at[:, 1]) <= size[1], side, np.nan)
            cap = (-np.sign(d[:, 1]) * size[1] - o[:, 1]) / d[:, 1]
            on = o + d * cap[:, None]
            cap = np.where(on[:, 0] ** 2 + on[:, 2] ** 2 <= size[0] ** 2, cap, np.nan)
            t = np.fmin(side, cap)
            zero = np.zeros(n)
            round_side = np.stack([at[:, 0], zero, at[:, 2]], 1)
            flat = np.stack([zero, -np.sign(d[:, 1]), zero], 1)
            local = np.where((t == side)[:, None], round_side, flat)
    t = np.where((t > 1e-6) & np.isfinite(t), t, far)
    normal = local @ rotation.T
    with np.errstate(invalid="ignore", divide="ignore"):
        normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return t, normal


def nearest(origin, direction):
    best = np.full(len(direction), np.inf)
    index = np.zeros(len(direction), int)
    normal = np.zeros((len(direction), 3))
    for i, shape in enumerate(OBJECTS):
        t, n = hit(shape, origin, direction)
        closer = t < best
        best[closer], index[closer], normal[closer] = t[closer], i, n[closer]
    return best, index, normal


def rays(view, u, v):
    """World directions whose camera z is 1, so that the distance along them is the depth."""
    return np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(view["k"]).T @ view["r"]


def depth_at(view, u, v):
    return nearest(view["centre"], rays(view, u, v))[0]


def render(view):
    """[H, W, 3] in 0..1."""
    s = SUPERSAMPLES
    y, x = np.mgrid[0 : HEIGHT * s, 0 : WIDTH * s]
    direction = rays(view, (x + 0.5) / s - 0.5, (y + 0.5) / s - 0.5)
    t, index, normal = nearest(view["centre"], direction)
    point = view["centre"] + direction * t[:, None]
    to_lamp = LAMP - point
    distance = np.linalg.norm(to_lamp, axis=1)
    to_lamp /= distance[:, None]
    start = point + 1e-4 * normal
    lit = np.ones(len(point), bool)
    for shape in OBJECTS[2:]:
        for part in np.array_split(np.arange(len(point)), 16):
            o = start[part] - shape[1]
            turned = (shape[0], np.zeros(3), *shape[2:])
            lit[part] &= ~(hit(turned, o, to_lamp[part])[0] < distance[part])
    colour = np.zeros_like(point)
    for i, (_, centre, _, rotation, texture) in enumerate(OBJECTS):
        on = index == i
        if on.any():
            colour[on] = texture((point[on] - centre) @ rotation if i > 1 else point[on])
    light = 0.42 + 0.68 * lit * np.clip((normal * to_lamp).sum(1), 0, 1)
    image = np.clip(colour * light[:, None], 0, 1).reshape(HEIGHT, s, WIDTH, s, 3).mean((1, 3))
    return image ** (1 / 1.5)


def sparse_points(views):
    """Points on the surfaces, seen in at least three views.

    For each: position, [(view index, u, v, residual in pixels, depth)].
    """
    random = np.random.default_rng(3)
    points = []
    while len(points) < POINTS:
        i = int(random.integers(len(views)))
        u, v = np.array([random.uniform(8, WIDTH - 9)]), np.array([random.uniform(8, HEIGHT - 9)])
        d = depth_at(views[i], u, v)
        x = np.round(views[i]["centre"] + rays(views[i], u, v)[0] * d[0], 9)
        seen = []
        for j, view in enumerate(views):
            q = view["k"] @ (view["r"] @ x + view["t"])
            a, b = q[0] / q[2], q[1] / q[2]
            if (
                2 < a < WIDTH - 3
                and 2 < b < HEIGHT - 3
                and abs(depth_at(view, np.array([a]), np.array([b]))[0] / q[2] - 1) < 1e-4
            ):
                off = random.normal(0, 0.25, 2)
                seen.append((j, round(a + off[0], 4), round(b + off[1], 4), float(np.hypot(*off)), q[2]))
        if len(seen) >= 3:
            points.append((x, seen))
    return points


def write_pfm(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    h, w = data.shape
    path.write_bytes(f"Pf\n{w} {h}\n-1.0\n".encode() + np.ascontiguousarray(data[::-1], "<f4").tobytes())


def numbers(values):
    return " ".join(repr(float(v)) for v in values)


def write_mvsnet(folder, views, points):
    (folder / "cams").mkdir(parents=True, exist_ok=True)
    for i, view in enumerate(views):
        z = np.sort([s[4] for _, seen in points for s in seen if s[0] == i])
        near, far = (round(float(f * z[int(q * len(z))]), 4) for f, q in ((0.9, 0.01), (1.1, 0.99)))
        e = np.vstack([np.hstack([view["r"], view["t"][:, None]]), [0, 0, 0, 1]])
        text = "extrinsic\n" + "".join(numbers(row) + "\n" for row in e)
        text += "\nintrinsic\n" + "".join(numbers(row) + "\n" for row in view["k"])
        text += f"\n{near} {(far - near) / (PLANES - 1)!r} {PLANES} {far}\n"
        (folder / "cams" / f"{view['id']:08}_cam.txt").write_text(text)
    lines = [str(len(views))]
    for i, view in enumerate(views):
        scores = []
        for j, other in enumerate(views):
            if i != j:
                score = 0.0
                for x, seen in points:
                    if {i, j} <= {s[0] for s in seen}:
                        a, b = view["centre"] - x, other["centre"] - x
                        angle = math.degrees(math.acos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))
                        score += math.exp(-((angle - 5) ** 2) / (2 * (1 if angle <= 5 else 10) ** 2))
                scores.append((score, other["id"]))
        scores.sort(reverse=True)
        lines += [str(view["id"]), " ".join([str(len(scores))] + [f"{n} {s:.3f}" for s, n in scores])]
    (folder / "pair.txt").write_text("\n".join(lines) + "\n")


def write_colmap(folder, views, points, images):
    text = folder / "text"
    text.mkdir(parents=True, exist_ok=True)
    cams = {v["camera"]: v["k"] for v in views}
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for c, k in sorted(cams.items()):
        lines.append(f"{c + 1} PINHOLE {WIDTH} {HEIGHT} " + numbers([k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5]))
    (text / "cameras.txt").write_text("\n".join(lines) + "\n")
    observed = [[] for _ in views]
    tracks = []
    for n, (x, seen) in enumerate(points):
        track = []
        for j, u, v, _, _ in seen:
            track += [j + 1, len(observed[j])]
            observed[j].append(f"{u + 0.5:.4f} {v + 0.5:.4f} {n + 1}")
        first = seen[0]
        r, g, b = images[first[0]][int(round(first[2])), int(round(first[1]))]
        error = np.mean([s[3] for s in seen])
        tracks.append(f"{n + 1} {numbers(x)} {r} {g} {b} {error:.6f} " + " ".join(map(str, track)))
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for i, view in enumerate(views):
        # The rotation of cam.txt is that of this quaternion after normalisation.
        lines.append(f"{i + 1} {numbers(view['q'])} {numbers(view['t'])} {view['camera'] + 1} {view['id']:08}.jpg")
        lines.append(" ".join(observed[i]))
    (text / "images.txt").write_text("\n".join(lines) + "\n")
    (text / "points3D.txt").write_text(
        "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n" + "\n".join(tracks) + "\n"
    )
    binary = folder / "binary"
    binary.mkdir(parents=True, exist_ok=True)
    pycolmap.Reconstruction(str(text)).write(str(binary))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scene", type=Path, default=ROOT / "examples/scene")
    parser.add_argument("--colmap", type=Path, default=ROOT / "tests/data/example_colmap")
    parser.add_argument("--cameras-only", action="store_true", help="keep the images that are there")
    args = parser.parse_args()
    for sub in ("cams", "truth") if args.cameras_only else ("cams", "truth", "images"):
        shutil.rmtree(args.scene / sub, ignore_errors=True)
    (args.scene / "images").mkdir(parents=True, exist_ok=True)
    views = cameras()
    images = []
    for view in views:
        path = args.scene / "images" / f"{view['id']:08}.jpg"
        if not args.cameras_only:
            Image.fromarray((render(view) * 255 + 0.5).astype(np.uint8)).save(path, quality=QUALITY, subsampling=0)
        images.append(np.asarray(Image.open(path)))
        y, x = np.mgrid[0:HEIGHT:4, 0:WIDTH:4].astype(float)
        write_pfm(args.scene / "truth" / f"{view['id']:08}.pfm", depth_at(view, x, y).reshape(x.shape))
        print(path.name, f"{path.stat().st_size / 1e3:.0f} KB", flush=True)
    points = sparse_points(views)
    write_mvsnet(args.scene, views, points)
    write_colmap(args.colmap, views, points, images)


if __name__ == "__main__":
    main()
