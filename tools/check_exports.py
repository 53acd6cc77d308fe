"""Reads exports back with other programs' readers and compares every number with the run that they are of.

    python tools/check_exports.py OUT [EXPORTS]     (EXPORTS is OUT/export unless named)
    python tools/check_exports.py --crs             compares the table of src/export/crs.rs with pyproj's database

For each format that EXPORTS/export.json lists it prints a line, and it ends with code 1 if one differs. It wants numpy,
scipy, plyfile, laspy with lazrs, trimesh, pygltflib, pye57, OpenEXR, opencv-python, pillow, tifffile and pycolmap; a
format whose reader is missing fails.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from score_points import read_pfm


class Run:
    """What the run has left, read by readers that share no code with the engine."""

    def __init__(self, out, exports):
        from plyfile import PlyData

        self.out, self.exports = out, exports
        self.manifest = json.loads((out / "manifest.json").read_text())
        self.listed = json.loads((exports / "export.json").read_text())["formats"]
        self.views = self.manifest["views"]
        self.cloud = None
        if (out / "fused.ply").exists():
            ply = PlyData.read(out / "fused.ply")
            vertex, offset = ply["vertex"], np.zeros(3)
            for comment in ply.comments:
                if comment.startswith("ply-offset"):
                    offset = np.array(comment.split()[1:], float)
            self.cloud = {
                "xyz": np.stack([vertex[a] for a in "xyz"], 1).astype(float) + offset,
                "normal": np.stack([vertex[a] for a in ("nx", "ny", "nz")], 1),
                "rgb": np.stack([vertex[a] for a in ("red", "green", "blue")], 1),
                "confidence": np.array(vertex["confidence"]),
                "views": np.array(vertex["views"]),
            }

    def options(self, name):
        return self.listed[name]["options"]

    def whole_cloud(self, name):
        """Whether the format has all points, in the cloud's order."""
        return not any(self.options(name)[key] for key in ("outliers", "spacing", "max_points"))

    def maps(self, view):
        name = view["name"]
        depth, confidence = (read_pfm(self.out / kind / f"{name}.pfm") for kind in ("depth", "confidence"))
        normal = self.out / "normal" / f"{name}.pfm"
        return depth, confidence, read_colour_pfm(normal) if normal.exists() else None


def read_colour_pfm(path):
    with open(path, "rb") as file:
        assert file.readline().strip() == b"PF"
        width, height = map(int, file.readline().split())
        kind = "<f4" if float(file.readline()) < 0 else ">f4"
        return np.frombuffer(file.read(), kind).reshape(height, width, 3)[::-1]


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def thinned(run, name):
    """The run's cloud, changed as the options say, by SciPy's tree and NumPy's sums."""
    from scipy.spatial import cKDTree

    cloud, options = dict(run.cloud), run.options(name)
    take = lambda which: {key: values[which] for key, values in cloud.items()}
    if options["outliers"] is not None:
        apart = cKDTree(cloud["xyz"]).query(cloud["xyz"], 17)[0][:, 1:].mean(1)
        cloud = take(apart <= apart.mean() + options["outliers"] * apart.std(ddof=1))
    if options["spacing"] is not None:
        side, view = options["spacing"], run.views[0]
        centre = -np.array(view["rotation"]).T @ np.array(view["translation"])
        cells = np.floor((cloud["xyz"] - (centre - 0.5 * side)) / side)
        _, first, place = np.unique(cells, axis=0, return_index=True, return_inverse=True)
        # In the order of the first points.
        order = np.argsort(first)
        rank = np.argsort(order)[place.ravel()]
        count = np.bincount(rank)
        mean = lambda values: np.stack([np.bincount(rank, column) / count for column in values.T], -1)
        normal = mean(cloud["normal"])
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        views = np.zeros(len(count), np.uint8)
        np.maximum.at(views, rank, cloud["views"])
        cloud = {
            "xyz": mean(cloud["xyz"]),
            "normal": normal / np.where(length > 0, length, 1),
            "rgb": np.floor(mean(cloud["rgb"]) + 0.5),
            "confidence": mean(cloud["confidence"][:, None])[:, 0],
            "views": views,
        }
    most, count = options["max_points"], len(cloud["xyz"])
    if most is not None and most < count:
        cloud = take(np.arange(most) * count // most)
    return cloud


def compare_cloud(run, name, found, most_moved):
    """`found` has the keys of Run.cloud; those it lacks are not held by the format."""
    cloud, _ = on_earth(run, thinned(run, name), name) if name in ("las", "laz", "copc") else (thinned(run, name), None)
    expect(len(found["xyz"]) == len(cloud["xyz"]), f"{len(found['xyz'])} points, not {len(cloud['xyz'])}")
    if run.options(name)["spacing"] is not None:
        # Means are rounded to what the file holds.
        most_moved += np.spacing(np.float32(np.abs(found["xyz"]).max())) + 1e-9
    moved = np.abs(found["xyz"] - cloud["xyz"]).max()
    expect(moved <= most_moved, f"points moved by {moved}, more than {most_moved}")
    # Means are rounded otherwise when they are summed in another order.
    means = run.options(name)["spacing"] is not None
    for key in ("rgb", "normal", "confidence", "views"):
        if key in found:
            off = np.abs(np.asarray(found[key], float) - np.asarray(cloud[key], float)).max()
            expect(off <= (means and {"rgb": 1, "views": 0}.get(key, 1e-6)), f"{key} differs by {off}")
    of = "" if len(cloud["xyz"]) == len(run.cloud["xyz"]) else f" of {len(run.cloud['xyz'])}"
    return f"{len(cloud['xyz'])}{of} points within {moved:.3g}, with {', '.join(k for k in found if k != 'xyz')}"


def on_earth(run, cloud, name):
    """The cloud where the run's scene lies on earth, by pyproj, and the system it is in; as it is where nobody says."""
    from pyproj import Transformer

    told, own = run.options(name)["crs"], run.manifest["scene"].get("georeference")
    if own is None or told == "scene":
        return cloud, None if told == "scene" else told
    (kind, about), xyz = next(iter(own.items())), cloud["xyz"]
    if kind == "projected":
        origin, axes, source = np.array(about["offset"]), np.eye(3), f"EPSG:{about['epsg']}"
        told = told or source
    else:
        source, origin, axes = "+proj=geocent +datum=WGS84", np.zeros(3), np.eye(3)
        if kind == "local":
            b, l = np.radians([about["latitude"], about["longitude"]])
            to = Transformer.from_crs("+proj=longlat +datum=WGS84 +type=crs", f"{source} +type=crs", always_xy=True)
            origin = np.array(to.transform(about["longitude"], about["latitude"], about["altitude"]))
            axes = np.array([[-np.sin(l), -np.sin(b) * np.cos(l), np.cos(b) * np.cos(l)],
                             [np.cos(l), -np.sin(b) * np.sin(l), np.cos(b) * np.sin(l)],
                             [0, np.cos(b), np.sin(b)]])
        source = f"{source} +type=crs"
    match = re.search(r"become those of (EPSG:\d+)", " ".join(run.listed[name]["notes"]))
    told = told or match.group(1)
    there = xyz @ axes.T + origin
    if told != source:
        there = np.stack(Transformer.from_crs(source, told, always_xy=True).transform(*there.T), 1)
    # Normals are turned, which tests/export looks at.
    return {**{key: values for key, values in cloud.items() if key != "normal"}, "xyz": there}, told


def check_las(run, name):
    import laspy

    las = laspy.read(run.exports / f"cloud.{name}")
    expect(all(c % 257 == 0 for c in np.unique(las.red)), "colours are not 257 times 8 bits")
    found = {
        "xyz": np.asarray(las.xyz),
        "rgb": np.stack([las.red, las.green, las.blue], 1) // 257,
        "normal": np.stack([las["NormalX"], las["NormalY"], las["NormalZ"]], 1),
        "confidence": np.asarray(las["confidence"]),
        "views": np.asarray(las["views"]),
    }
    header = las.header
    expect(np.allclose(header.mins, las.xyz.min(0)) and np.allclose(header.maxs, las.xyz.max(0)), "the header's box")
    crs, told = header.parse_crs(), on_earth(run, thinned(run, name), name)[1]
    expect((told is None) == (crs is None), f"the system is {crs}, not {told}")
    expect(told is None or f"EPSG:{crs.to_epsg()}" == told, f"the system is {crs}, not {told}")
    # Half a step, and what sums of doubles lose; on earth, what two programs differ by.
    half = 0.5 * header.scales.max() * (1 + 1e-6) + 1e-15 * np.abs(las.xyz).max()
    if "georeference" in run.manifest["scene"]:
        half += 1e-6
        found = {key: values for key, values in found.items() if key != "normal"}
    return compare_cloud(run, name, found, half) + f", scale {header.scales[0]:g}, offset {header.offsets}, {told}"


def check_copc(run, name):
    """By laspy's reader of the tree: every point, those of levels, and those of a box."""
    import laspy
    from laspy import Bounds, CopcReader

    def points_of(las):
        rgb = np.stack([las.red, las.green, las.blue], 1) // 257
        normal = np.stack([las["NormalX"], las["NormalY"], las["NormalZ"]], 1)
        steps = np.stack([las.X, las.Y, las.Z], 1)
        return {"steps": steps, "rgb": rgb, "normal": normal, "confidence": np.asarray(las["confidence"]),
                "views": np.asarray(las["views"])}

    path = run.exports / "cloud.copc.laz"
    with CopcReader.open(path) as copc:
        header, whole = copc.header, points_of(copc.query())
        levels = [len(copc.query(level=range(0, top + 1))) for top in range(32)]
        levels = levels[: levels.index(max(levels)) + 1]
        expect(all(a < b for a, b in zip(levels, levels[1:])), f"levels of {levels} points")
        low, high = np.asarray(header.mins), np.asarray(header.maxs)
        middle = 0.5 * (low + high)
        box = points_of(copc.query(bounds=Bounds(low, middle)))
        coarse = len(copc.query(resolution=copc.copc_info.spacing))
        crs = header.parse_crs()
    expect(coarse == levels[0], f"{coarse} points at the root's spacing, not {levels[0]}")
    xyz = whole["steps"] * header.scales + header.offsets
    inside = np.all((xyz >= low) & (xyz <= middle), 1)
    expect(len(box["steps"]) == inside.sum(), f"{len(box['steps'])} points in a box of {inside.sum()}")
    # Read without the tree it is a LAZ file.
    plain = points_of(laspy.read(path))
    order = lambda points: np.lexsort((points["confidence"], *points["steps"].T))
    ours, theirs = order(whole), order(plain)
    expect(all(np.array_equal(whole[k][ours], plain[k][theirs]) for k in whole), "the plain file's points differ")
    # The tree has its own order.
    cloud, told = on_earth(run, thinned(run, name), name)
    # The words of some systems are not known to the program, which notes it.
    unknown = any("names no coordinate system" in note for note in run.listed[name]["notes"])
    named = None if crs is None else f"EPSG:{crs.to_epsg()}"
    expect(named == (None if unknown else told), f"the system is {crs}, not {told}")
    if "normal" not in cloud:
        # On earth two programs differ by less than a step, but may round to another one: each axis by itself.
        moved = np.abs(np.sort(xyz, 0) - np.sort(cloud["xyz"], 0)).max()
        expect(moved <= header.scales.max() + 1e-6, f"points moved by {moved}")
        return f"{len(xyz)} points within {moved:.3g} along each axis, up to each level {levels}, {named}"
    steps = np.round((cloud["xyz"] - header.offsets) / header.scales).astype(np.int64)
    sorted_cloud = np.lexsort((cloud["confidence"], *steps.T))
    expect(len(ours) == len(sorted_cloud), f"{len(ours)} points, not {len(sorted_cloud)}")
    back = np.empty(len(ours), int)
    back[sorted_cloud] = ours
    found = {key: values[back] for key, values in whole.items() if key != "steps"}
    found["xyz"] = xyz[back]
    half = 0.5 * header.scales.max() * (1 + 1e-6) + 1e-15 * np.abs(xyz).max()
    return compare_cloud(run, name, found, half) + f", up to each level {levels}, {named}"


def check_glb(run, name):
    import trimesh
    from pygltflib import GLTF2

    path = run.exports / "cloud.glb"
    scene = trimesh.load(path)
    geometry = next(iter(scene.geometry.values()))
    node = scene.graph.nodes_geometry[0]
    matrix = scene.graph[node][0]
    gltf = GLTF2().load(str(path))
    blob = gltf.binary_blob()
    attributes = gltf.meshes[0].primitives[0].attributes

    def values(accessor, kind, width):
        accessor = gltf.accessors[accessor]
        view = gltf.bufferViews[accessor.bufferView]
        raw = blob[view.byteOffset : view.byteOffset + view.byteLength]
        return np.frombuffer(raw, kind).reshape(accessor.count, width)

    position = values(attributes.POSITION, "<f4", 3)
    expect(np.array_equal(np.asarray(geometry.vertices, np.float32), position), "trimesh reads other positions")
    accessor = gltf.accessors[attributes.POSITION]
    expect(np.array_equal(position.min(0), np.float32(accessor.min)), "min of POSITION")
    expect(np.array_equal(position.max(0), np.float32(accessor.max)), "max of POSITION")
    light = values(attributes.COLOR_0, "<f4", 3).astype(float)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    normal = attributes.NORMAL if attributes.NORMAL is not None else attributes._NORMAL
    found = {
        "xyz": position.astype(float) @ matrix[:3, :3].T + matrix[:3, 3],
        "rgb": np.round(255 * srgb).astype(np.uint8),
        "normal": values(normal, "<f4", 3),
        "confidence": values(attributes._CONFIDENCE, "<f4", 1)[:, 0],
        "views": values(attributes._VIEWS, "<f4", 1)[:, 0].astype(np.uint8),
    }
    # Half a step of a float of the size of what is left of a coordinate.
    step = 0.5 * np.spacing(np.abs(position).max()) * 1.001
    return compare_cloud(run, name, found, step) + f", translation {gltf.nodes[0].translation}"


def check_e57(run, name):
    import pye57

    # Fields of extensions are read where their types are known.
    pye57.e57.SUPPORTED_POINT_FIELDS.update({f"nor:normal{axis}": "f" for axis in "XYZ"} | {"engine:views": "B"})
    raw = pye57.E57(str(run.exports / "cloud.e57")).read_scan_raw(0)
    found = {
        "xyz": np.stack([raw[f"cartesian{a}"] for a in "XYZ"], 1).astype(float),
        "rgb": np.stack([raw[f"color{c}"] for c in ("Red", "Green", "Blue")], 1),
        "normal": np.stack([raw[f"nor:normal{a}"] for a in "XYZ"], 1),
        "confidence": raw["intensity"],
        "views": raw["engine:views"],
    }
    return compare_cloud(run, name, found, 0)


def check_xyz(run, name):
    path = run.exports / "cloud.xyz"
    columns = path.open().readline().strip()
    expect(columns == "//X Y Z R G B Nx Ny Nz confidence views", f"columns {columns}")
    rows = np.loadtxt(path, comments="//", ndmin=2)
    found = {
        "xyz": rows[:, :3],
        "rgb": rows[:, 3:6].astype(np.uint8),
        "normal": rows[:, 6:9].astype(np.float32),
        "confidence": rows[:, 9].astype(np.float32),
        "views": rows[:, 10].astype(np.uint8),
    }
    # Shortest digits of a float are read as another double within half a step of it.
    return compare_cloud(run, name, found, 0.5 * np.spacing(np.float32(np.abs(rows[:, :3]).max())))


def check_pcd(run, name):
    raw = (run.exports / "cloud.pcd").read_bytes()
    head, data = raw.split(b"DATA binary\n", 1)
    fields = dict(line.split(" ", 1) for line in head.decode().splitlines() if not line.startswith("#"))
    kinds = [f"<{t.lower()}{s}" for t, s in zip(fields["TYPE"].split(), fields["SIZE"].split())]
    rows = np.frombuffer(data, np.dtype(list(zip(fields["FIELDS"].split(), kinds))))
    expect(len(rows) == int(fields["POINTS"]) == int(fields["WIDTH"]), "the number of points")
    found = {
        "xyz": np.stack([rows[a] for a in "xyz"], 1).astype(float),
        "rgb": np.stack([rows["rgb"] >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8),
        "normal": np.stack([rows[f"normal_{a}"] for a in "xyz"], 1),
        "confidence": rows["confidence"],
        "views": rows["views"],
    }
    return compare_cloud(run, name, found, 0)


def check_ply(run, name):
    from plyfile import PlyData

    vertex = PlyData.read(run.exports / "cloud.ply")["vertex"]
    prefix = "scalar_" if run.options(name)["ply_names"] == "cloudcompare" else ""
    found = {
        "xyz": np.stack([vertex[a] for a in "xyz"], 1).astype(float),
        "rgb": np.stack([vertex[a] for a in ("red", "green", "blue")], 1),
        "normal": np.stack([vertex[a] for a in ("nx", "ny", "nz")], 1),
        "confidence": vertex[prefix + "confidence"],
        "views": vertex[prefix + "views"].astype(np.uint8),
    }
    return compare_cloud(run, name, found, 0)


def compare_maps(run, name, view, depth, confidence, normal, step=0.0, fine=0.0):
    """Maps as they were read against the run's: `step` is the most that depth may differ by, `fine` the others."""
    true_depth, true_confidence, true_normal = run.maps(view)
    expect(depth.shape == true_depth.shape, f"{view['name']}: {depth.shape}, not {true_depth.shape}")
    kept = np.ones(depth.shape, bool)
    if run.options(name)["filtered_depth"]:
        kept = depth > 0
        confident = true_confidence > np.float32(run.manifest["parameters"]["min_confidence"])
        expect(not np.any(kept & ~confident), f"{view['name']}: a pixel below min-confidence is kept")
        expect(kept.any() and not kept.all(), f"{view['name']}: all or no pixels are kept")
    expect(np.abs(depth - true_depth)[kept].max() <= step, f"{view['name']}: depth differs")
    expect(np.abs(confidence - true_confidence).max() <= fine, f"{view['name']}: confidence differs")
    if true_normal is not None:
        expect(np.abs(normal - true_normal)[kept].max() <= fine, f"{view['name']}: normals differ")
    return kept.mean()


def camera(view):
    pose = np.hstack([np.array(view["rotation"]), np.array(view["translation"])[:, None]])
    return np.array(view["map_k"]), pose


def summary(run, shares):
    return f"{len(run.views)} views, {100 * np.mean(shares):.1f} % of the pixels kept"


def check_npz(run, name):
    shares = []
    for view in run.views:
        with np.load(run.exports / "npz" / f"{view['name']}.npz") as file:
            shares.append(compare_maps(run, name, view, file["depth"], file["confidence"], file["normal"]))
            k, pose = camera(view)
            expect(np.array_equal(file["K"], k), "K differs")
            expect(np.array_equal(file["cam_from_world"], pose), "cam_from_world differs")
    return summary(run, shares)


def check_exr(run, name):
    import OpenEXR

    shares = []
    for view in run.views:
        path = str(run.exports / "exr" / f"{view['name']}.exr")
        with OpenEXR.File(path, separate_channels=True) as file:
            channels = {key: channel.pixels for key, channel in file.channels().items()}
            normal = np.stack([channels[f"normal.{a}"] for a in "XYZ"], -1)
            shares.append(compare_maps(run, name, view, channels["Z"], channels["confidence"], normal))
            header = file.header()
            k, pose = camera(view)
            expect(np.array_equal(np.asarray(header["K"]).reshape(3, 3), k), "K differs")
            found = np.asarray(header["camFromWorld"]).reshape(4, 4)
            expect(np.array_equal(found, np.vstack([pose, [0, 0, 0, 1]])), "camFromWorld differs")
    return summary(run, shares)


def check_png16(run, name):
    import cv2
    from PIL import Image

    about = json.loads((run.exports / "png16" / "png16.json").read_text())
    scale = about["depth"]["scale"]
    shares = []
    for view in run.views:
        path = lambda kind: str(run.exports / "png16" / kind / f"{view['name']}.png")
        raw = {kind: cv2.imread(path(kind), cv2.IMREAD_UNCHANGED) for kind in ("depth", "confidence", "normal")}
        expect(all(image.dtype == np.uint16 for image in raw.values()), "16 bits")
        expect(float(Image.open(path("depth")).text["depth_scale"]) == scale, "the text chunk's scale")
        normal = raw["normal"][:, :, ::-1].astype(float)
        normal = np.where(normal.any(-1, keepdims=True), (normal - 32768) / 32767, 0)
        # Half a step of each.
        depth, confidence = raw["depth"] / scale, raw["confidence"] / 65535
        shares.append(compare_maps(run, name, view, depth, confidence, normal, 0.5001 / scale, 0.5001 / 32767))
    return summary(run, shares) + f", scale {scale:g}"


def check_tiff32(run, name):
    import tifffile

    shares = []
    for view in run.views:
        path = lambda kind: run.exports / "tiff32" / kind / f"{view['name']}.tif"
        depth, confidence, normal = (tifffile.imread(path(kind)) for kind in ("depth", "confidence", "normal"))
        shares.append(compare_maps(run, name, view, depth, confidence, normal))
    return summary(run, shares)


def centred(k):
    """K as COLMAP has it: pixel centres at halves."""
    k = np.array(k)
    return [k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5]


def check_model(run, folder, origin):
    """A COLMAP model, binary and text, against the run's cameras."""
    import pycolmap

    for reading in ("read_binary", "read_text"):
        model = pycolmap.Reconstruction()
        getattr(model, reading)(str(folder))
        expect(len(model.images) == len(run.views), f"{len(model.images)} images")
        by_name = {image.name.rsplit(".", 1)[0]: image for image in model.images.values()}
        for view in run.views:
            image = by_name[view["name"]]
            camera = model.cameras[image.camera_id]
            expect([camera.width, camera.height] == view["map_size"], "the camera's size")
            expect(np.allclose(camera.params, centred(view["map_k"]), rtol=1e-15, atol=1e-12), "the camera's K")
            found = image.cam_from_world()
            rotation = np.array(view["rotation"])
            shifted = np.array(view["translation"]) + rotation @ origin
            # A quaternion of doubles, there and back; and sums of three numbers of the size of the origin.
            expect(np.allclose(found.rotation.matrix(), rotation, atol=1e-12), "the rotation")
            most = 1e-12 + 4 * np.spacing(np.abs(view["translation"]).max())
            expect(np.abs(found.translation - shifted).max() < most, "the translation")
    return model


def origin_of(run, name):
    """What a note of the export says was taken from coordinates."""
    for note in run.listed[name]["notes"]:
        found = re.search(r"COLMAP's files have coordinates less (\S+) (\S+) (\S+),", note)
        if found:
            return np.array(found.groups(), float)
    return np.zeros(3)


def check_points3d(run, name):
    folder, origin = run.exports / "points3D", origin_of(run, name)
    text = check_model(run, folder / "sparse" / "0", origin)
    import pycolmap

    model = pycolmap.Reconstruction()
    model.read_binary(str(folder / "sparse" / "0"))
    expect(set(model.points3D) == set(text.points3D), "text and binary have other points")
    by_id = {image.image_id: image for image in model.images.values()}
    maps = {view["name"]: run.maps(view)[0] for view in run.views}
    length, worst = 0, 0.0
    for number, point in model.points3D.items():
        expect(np.array_equal(text.points3D[number].xyz, point.xyz), "text and binary differ")
        if run.whole_cloud(name):
            there = run.cloud["xyz"][number - 1] - origin
            expect(np.abs(there - point.xyz).max() < 1e-9 * max(1, np.abs(run.cloud["xyz"]).max()), "a point moved")
            expect(np.array_equal(point.color, run.cloud["rgb"][number - 1]), "a colour differs")
        length += len(point.track.elements)
        for element in point.track.elements:
            image = by_id[element.image_id]
            seen = image.points2D[element.point2D_idx]
            expect(seen.point3D_id == number, "a track leads to another point")
            cam = image.cam_from_world() * point.xyz
            k = model.cameras[image.camera_id].params
            pixel = np.array([k[0] * cam[0] / cam[2] + k[2], k[1] * cam[1] / cam[2] + k[3]])
            expect(np.abs(pixel - seen.xy).max() < 1e-6, "an observation is not the point's projection")
            column, row = np.floor(pixel).astype(int)
            depth = maps[image.name.rsplit(".", 1)[0]][row, column]
            worst = max(worst, abs(depth - cam[2]) / cam[2])
    expect(worst < run.manifest["parameters"]["max_depth_error_rel"], f"a view sees a point {worst} behind its map")
    photos = check_photos(run, folder / "images")
    return f"{len(model.points3D)} points, {length / len(model.points3D):.2f} views each, {photos}"


def check_photos(run, folder):
    """Photos have the maps' size and resemble the stored ones, the less where a lens was taken out."""
    from PIL import Image

    worst = []
    for view in run.views:
        (path,) = folder.glob(f"{view['name']}.*")
        photo = Image.open(path)
        expect(list(photo.size) == view["map_size"], f"{path.name} is {photo.size}")
        # Smoothed a little, a photo of any size resembles the stored one.
        stored = Image.open(view["image"]).convert("RGB").resize(photo.size, Image.Resampling.BOX)
        worst.append(np.abs(np.asarray(photo, float) - np.asarray(stored, float)).mean())
    bent = any("undistorted" in note for note in run.manifest["notes"])
    expect(max(worst) < (40 if bent else 12), f"a photo differs by {max(worst):.1f} of 255 on average")
    return f"photos within {max(worst):.1f} of 255 of the stored ones, reduced"


def read_colmap_map(path, kind="<f4"):
    raw = path.read_bytes()
    width, height, channels, rest = raw.split(b"&", 3)
    shape = int(channels), int(height), int(width)
    values = np.frombuffer(rest, kind)
    return values.reshape(shape) if kind == "<f4" else (shape, values)


def check_workspace(run, name):
    import shutil
    import tempfile

    import pycolmap
    from plyfile import PlyData

    pycolmap.logging.minloglevel = 2
    folder, origin = run.exports / "workspace", origin_of(run, name)
    check_model(run, folder / "sparse", origin)
    photos = check_photos(run, folder / "images")
    names = (folder / "stereo" / "fusion.cfg").read_text().split()
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    kept, links = [], 0
    for at, (view, frame) in enumerate(zip(run.views, frames)):
        depth, _, normal = run.maps(view)
        rotation = np.array(view["rotation"])
        read = lambda kind, of: read_colmap_map(folder / "stereo" / kind / f"{names[at]}.{of}.bin")
        expect(np.array_equal(read("depth_maps", "photometric")[0], depth), "a depth map differs")
        confirmed = read("depth_maps", "geometric")[0]
        expect(np.array_equal(confirmed[confirmed > 0], depth[confirmed > 0]), "a confirmed depth differs")
        kept.append((confirmed > 0).mean())
        if normal is not None:
            in_camera = normal @ rotation.T
            found = np.moveaxis(read("normal_maps", "photometric"), 0, -1)
            expect(np.abs(found - in_camera).max() < 1e-6, "a normal map differs")
        _, graph = read_colmap_map(folder / "stereo" / "consistency_graphs" / f"{names[at]}.geometric.bin", "<i4")
        place, pixels = 0, 0
        while place < len(graph):
            column, row, count = graph[place : place + 3]
            expect(confirmed[row, column] > 0, "the graph has a pixel that is not confirmed")
            others = graph[place + 3 : place + 3 + count]
            expect(len(set(others)) == count and at not in others and max(others) < len(names), "views of a pixel")
            links, pixels, place = links + count, pixels + 1, place + 3 + count
        expect(pixels == (confirmed > 0).sum(), "the graph lacks pixels")
        # Camera to world in OpenGL's axes.
        world = np.array(frame["transform_matrix"])
        expect(np.allclose(world[:3, :3] @ np.diag([1, -1, -1]), rotation.T, atol=1e-12), "transforms.json: rotation")
        centre = -rotation.T @ np.array(view["translation"]) - origin
        expect(np.allclose(world[:3, 3], centre, atol=1e-9 * max(1, np.abs(centre + origin).max())), "its centre")
        inside = [frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"]]
        expect(np.allclose(inside, centred(view["map_k"])), "transforms.json: K")
        words = (folder / "cams" / f"{view['name']}_cam.txt").read_text().split()
        expect(words[0] == "extrinsic" and words[17] == "intrinsic", "cam.txt")
        expect(np.array_equal(np.array(words[18:27], float).reshape(3, 3), view["map_k"]), "cam.txt: intrinsic")
        pose = np.array(words[1:17], float).reshape(4, 4)
        expect(np.array_equal(pose[:3, :3], rotation), "cam.txt: extrinsic")
    told = f"{100 * np.mean(kept):.1f} % confirmed by {links / max(1, sum((np.array(kept) * depth.size))):.2f} views"
    if run.cloud is not None:
        vertex = PlyData.read(folder / "fused.ply")["vertex"]
        places = np.stack([vertex[a] for a in "xyz"], 1)
        if run.whole_cloud(name):
            expect(np.array_equal(places, (run.cloud["xyz"] - origin).astype(np.float32)), "fused.ply")
        raw = np.fromfile(folder / "fused.ply.vis", "<u4")
        expect(int(raw[:2].view("<u8")[0]) == len(places), "fused.ply.vis: the number of points")
        at, points = 2, 0
        while at < len(raw):
            expect(all(raw[at + 1 : at + 1 + raw[at]] < len(names)), "fused.ply.vis: a view")
            at, points = at + 1 + raw[at], points + 1
        expect(points == len(places) and at == len(raw), "fused.ply.vis: its length")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "workspace"
        shutil.copytree(folder, copy)
        options = pycolmap.StereoFusionOptions()
        options.min_num_pixels = 3
        meshing = pycolmap.PoissonMeshingOptions()
        # The default of 10 is for clouds of 10^6 points and more, and trims a smaller one away.
        meshing.trim, meshing.depth = 6, 9
        pycolmap.stereo_fusion(copy / "again.ply", copy, options=options, output_type="PLY")
        again = PlyData.read(copy / "again.ply")["vertex"]
        points = np.stack([again[a] for a in "xyz"], 1)
        expect(len(points) > 0, "COLMAP fuses nothing")
        told += f"; COLMAP fuses {len(points)} points"
        if run.cloud is not None:
            from scipy.spatial import cKDTree

            distance = cKDTree(run.cloud["xyz"] - origin).query(points)[0]
            told += f", half of them within {np.median(distance):.2g} of the run's"
            pycolmap.poisson_meshing(folder / "fused.ply", copy / "mesh.ply", meshing)
            mesh = PlyData.read(copy / "mesh.ply")
            expect(mesh["face"].count > 0, "COLMAP meshes nothing")
            told += f", and meshes the run's cloud to {mesh['face'].count} faces"
    return f"{told}; {photos}"


class Binary:
    """A file read from the front, little endian."""

    def __init__(self, path):
        self.raw, self.at = path.read_bytes(), 0

    def array(self, kind, count):
        values = np.frombuffer(self.raw, kind, count, self.at)
        self.at += values.nbytes
        return values

    def one(self, kind):
        return self.array(kind, 1)[0].item()

    def text(self, kind):
        return self.array("u1", self.one(kind)).tobytes().decode()

    def camera(self):
        return self.array("<f8", 9).reshape(3, 3), self.array("<f8", 9).reshape(3, 3), self.array("<f8", 3)


def check_openmvs(run, name):
    folder, origin = run.exports / "openmvs", origin_of(run, name)
    photos = check_photos(run, folder / "images")
    centre = lambda view: -np.array(view["rotation"]).T @ np.array(view["translation"]) - origin
    near = lambda a, b: np.allclose(a, b, atol=1e-9 * max(1, np.abs(b).max(), np.abs(origin).max()))
    shares = []
    for at, view in enumerate(run.views):
        file = Binary(folder / f"depth{at:04}.dmap")
        expect(file.array("u1", 4).tobytes() == b"DR\x07\0", "the type")
        size = view["map_size"]
        expect(list(file.array("<u4", 4)) == size + size, "sizes")
        least, most = file.array("<f4", 2)
        expect(file.text("<u2").split(".")[0] == f"images/{view['name']}", "the photo's name")
        ids = file.array("<u4", file.one("<u4"))
        against = [v["name"] for v in run.views]
        expect([against[i] for i in ids] == [view["name"], *view["checked_against"]], "views")
        k, r, c = file.camera()
        expect(np.array_equal(k, view["map_k"]) and np.array_equal(r, view["rotation"]), "K or R")
        expect(near(c, centre(view)), "the camera's place")
        pixels = size[0] * size[1]
        depth = file.array("<f4", pixels).reshape(size[::-1])
        normal = file.array("<f4", 3 * pixels).reshape(*size[::-1], 3)
        confidence = file.array("<f4", pixels).reshape(size[::-1])
        expect(file.at == len(file.raw), "the file's length")
        expect(depth.max() == most and depth[depth > 0].min() == least, "the range of depths")
        # A rotation there and back in floats.
        shares.append(compare_maps(run, name, view, depth, confidence, normal @ r, 0, 1e-6))
    file = Binary(folder / "scene.mvs")
    expect(file.array("u1", 4).tobytes() == b"MVSI" and file.one("<u4") == 3 and file.one("<u4") == 0, "the head")
    expect(file.one("<u8") == 1, "one platform")
    file.text("<u8")
    expect(file.one("<u8") == len(run.views), "a camera a view")
    for view in run.views:
        file.text("<u8")
        expect(list(file.array("<u4", 2)) == view["map_size"], "a camera's size")
        k, r, c = file.camera()
        expect(np.array_equal(k, view["map_k"]) and np.array_equal(r, np.eye(3)) and not c.any(), "a camera")
    expect(file.one("<u8") == len(run.views), "a pose a view")
    for view in run.views:
        r, c = file.array("<f8", 9).reshape(3, 3), file.array("<f8", 3)
        expect(np.array_equal(r, view["rotation"]) and near(c, centre(view)), "a pose")
    expect(file.one("<u8") == len(run.views), "an image a view")
    for at in range(len(run.views)):
        path = file.text("<u8")
        expect((folder / path).is_file() and list(file.array("<u4", 4)) == [0, at, at, at], f"image {path}")
    points = file.one("<u8")
    places, seen = [], 0
    for _ in range(points):
        places.append(file.array("<f4", 3))
        views = file.array([("id", "<u4"), ("weight", "<f4")], file.one("<u8"))
        expect(len(views) > 0 and views["id"].max() < len(run.views), "the views of a point")
        seen += len(views)
    expect(file.one("<u8") == points, "a normal a point")
    normals = file.array("<f4", 3 * points).reshape(-1, 3)
    expect(file.one("<u8") == points, "a colour a point")
    colours = file.array("u1", 3 * points).reshape(-1, 3)[:, ::-1]
    expect([file.one("<u8") for _ in range(3)] == [0, 0, 0], "lines")
    expect(np.array_equal(file.array("<f8", 16).reshape(4, 4), np.eye(4)), "the transform")
    expect(file.at == len(file.raw), "the archive's length")
    if run.cloud is not None and run.whole_cloud(name) and points == len(run.cloud["xyz"]):
        expect(np.array_equal(np.array(places), (run.cloud["xyz"] - origin).astype(np.float32)), "points")
        expect(np.array_equal(normals, run.cloud["normal"]) and np.array_equal(colours, run.cloud["rgb"]), "points")
    return summary(run, shares) + f", {points} points, {seen / max(1, points):.2f} views each, {photos}"


CHECKS = {
    "las": check_las,
    "laz": check_las,
    "copc": check_copc,
    "e57": check_e57,
    "glb": check_glb,
    "xyz": check_xyz,
    "pcd": check_pcd,
    "ply": check_ply,
    "npz": check_npz,
    "exr": check_exr,
    "png16": check_png16,
    "tiff32": check_tiff32,
    "workspace": check_workspace,
    "points3D": check_points3d,
    "openmvs": check_openmvs,
}


def check_crs_table():
    """Every projected system is in the table, and no other."""
    from pyproj.database import get_codes
    from pyproj.enums import PJType

    source = (Path(__file__).parent.parent / "src/export/crs.rs").read_text()
    pairs = [tuple(map(int, pair)) for pair in re.findall(r"\((\d+), (\d+)\)", source)]
    codes = lambda kind: {int(c) for c in get_codes("EPSG", kind, allow_deprecated=True) if int(c) < 65536}
    projected = codes(PJType.PROJECTED_CRS)
    others = [PJType.GEOGRAPHIC_2D_CRS, PJType.GEOGRAPHIC_3D_CRS, PJType.GEOCENTRIC_CRS, PJType.VERTICAL_CRS]
    others = set().union(*map(codes, [*others, PJType.COMPOUND_CRS])) - projected
    inside = lambda code: any(first <= code <= last for first, last in pairs)
    missing, wrong = [c for c in projected if not inside(c)], [c for c in others if inside(c)]
    expect(not missing and not wrong, f"missing {missing}, wrong {wrong}")
    print(f"crs: {len(projected)} projected systems are in the table, {len(others)} others are not")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("exports", type=Path, nargs="?")
    parser.add_argument("--crs", action="store_true")
    args = parser.parse_args()
    if args.crs:
        return check_crs_table()
    if args.out is None:
        parser.error("OUT or --crs is needed")
    run = Run(args.out, args.exports or args.out / "export")
    failed = 0
    for name, listed in run.listed.items():
        gone = [file for file in listed["files"] if not (run.exports / file).is_file()]
        try:
            expect(not gone, f"{gone} are listed but not there")
            print(f"{name}: {CHECKS[name](run, name)}")
        except Exception as error:
            failed += 1
            print(f"{name}: FAILED: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
