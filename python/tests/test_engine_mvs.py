"""The package as its users have it: arrays in, arrays out, errors, progress, Ctrl-C."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import engine_mvs

ROOT = Path(__file__).resolve().parents[2]
SCENE = ROOT / "examples" / "scene"
# Small enough for a second, whatever the build.
SIDE = int(os.environ.get("ENGINE_TEST_SIDE", "96"))
SMALL: dict[str, Any] = {"planes": 16, "levels": 2, "views": 3, "min_confidence": 0.3}
Floats = npt.NDArray[np.float32]


def read_pfm(path: Path) -> Floats:
    """A reader of the tests' own."""
    with path.open("rb") as file:
        assert file.readline().strip() == b"Pf"
        width, height = map(int, file.readline().split())
        kind = "<f4" if float(file.readline()) < 0 else ">f4"
        return np.flipud(np.frombuffer(file.read(), kind).reshape(height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def scene() -> engine_mvs.Scene:
    return engine_mvs.read_scene(SCENE)


@pytest.fixture(scope="module")
def photos(scene: engine_mvs.Scene) -> tuple[list[Floats], npt.NDArray[np.float64]]:
    loaded = [scene.photo(view, max_side=SIDE) for view in range(len(scene))]
    return [photo for photo, _, _ in loaded], np.stack([k for _, _, k in loaded])


def infer(scene: engine_mvs.Scene, photos: Any, K: Any, **more: Any) -> engine_mvs.Result:
    options = {**SMALL, "sources": scene.sources, "depth_range": scene.depth_range, **more}
    return engine_mvs.infer(photos, K, scene.cam_from_world, **options)


@pytest.fixture(scope="module")
def result(scene: engine_mvs.Scene, photos: Any) -> engine_mvs.Result:
    return infer(scene, *photos)


def engine(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine_mvs", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **more)


def test_cameras_are_those_of_the_files(scene: engine_mvs.Scene) -> None:
    text = (SCENE / "cams" / "00000002_cam.txt").read_text().split()
    assert np.allclose(scene.cam_from_world[2], np.array(text[1:17], float).reshape(4, 4), atol=1e-12)
    assert np.array_equal(scene.K[2], np.array(text[18:27], float).reshape(3, 3))
    # near, interval, planes, far
    assert scene.depth_range[2].tolist() == [float(text[27]), float(text[30])] and scene.planes[2] == int(text[29])
    assert scene.sources[0][:3] == [1, 2, 3] and scene.sizes[0] == (512, 384)


def test_arrays_give_what_the_command_gives_to_the_bit(scene: Any, photos: Any, result: Any, tmp_path: Path) -> None:
    words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
    ran = engine("infer", SCENE, "-o", tmp_path / "out", "--max-side", SIDE, *words, "--quiet")
    assert ran.returncode == 0, ran.stderr
    for kind, maps in (("depth", result.depth), ("confidence", result.confidence)):
        for name, of_view in zip(scene.names, maps):
            assert np.array_equal(of_view, read_pfm(tmp_path / "out" / kind / f"{name}.pfm")), (kind, name)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert result.K.tolist() == [view["map_k"] for view in manifest["views"]]
    assert len(result.cloud) == manifest["points"] > 100
    result.cloud.write_ply(tmp_path / "cloud.ply")
    body = [(tmp_path / name).read_bytes().partition(b"end_header\n")[2] for name in ("cloud.ply", "out/fused.ply")]
    assert body[0] == body[1]
    # And so does the job on files from Python.
    files = engine_mvs.infer_scene(SCENE, max_side=SIDE, **SMALL)
    assert all(np.array_equal(a, b) for a, b in zip(files.depth, result.depth))


def test_depth_is_near_the_truth(scene: Any, result: Any) -> None:
    # Truth has a quarter of the stored photo's sides; maps that of the reduced photo: compared where they meet.
    step = scene.sizes[0][0] // 4 / SIDE
    good = []
    for name, depth, confidence in zip(scene.names, result.depth, result.confidence):
        truth = read_pfm(SCENE / "truth" / f"{name}.pfm")
        rows = np.clip(np.rint(np.arange(depth.shape[0]) * step).astype(int), 0, truth.shape[0] - 1)
        columns = np.clip(np.rint(np.arange(depth.shape[1]) * step).astype(int), 0, truth.shape[1] - 1)
        error = np.abs(depth - truth[np.ix_(rows, columns)]) / depth
        good.append(np.mean(error[confidence > 0.5] < 0.05))
    # Nearest pixels of another grid differ at edges; random depths in this range are within 5 % for a tenth at most.
    assert np.mean(good) > 0.8
    for normal, depth in zip(result.normal, result.depth):
        lengths = np.linalg.norm(normal, axis=2)
        assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0)) and normal.shape[:2] == depth.shape


def test_bytes_floats_dlpack_and_array_are_one(scene: Any, photos: Any, result: Any) -> None:
    class Wrapped:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray(self.array, dtype)

    small, K = photos
    rounded = [np.rint(photo * 255).astype(np.uint8) for photo in small]
    of_bytes = infer(scene, rounded, K, cloud=False)
    as_floats = [photo.astype(np.float32) / np.float32(255) for photo in rounded]
    for same in (infer(scene, as_floats, K, cloud=False), infer(scene, [Wrapped(p) for p in rounded], K, cloud=False)):
        assert all(np.array_equal(a, b) for a, b in zip(same.depth, of_bytes.depth))
    assert of_bytes.cloud is None
    shared = np.from_dlpack(result.depth[0])
    assert np.shares_memory(shared, result.depth[0])


def test_torch_shares_memory(scene: Any, photos: Any, result: Any) -> None:
    torch = pytest.importorskip("torch")
    assert torch.from_dlpack(result.depth[0]).data_ptr() == result.depth[0].ctypes.data
    small, K = photos
    again = infer(scene, [torch.from_numpy(photo) for photo in small], torch.from_numpy(K))
    assert all(np.array_equal(a, b) for a, b in zip(again.depth, result.depth))


def test_masks_cut_and_points_give_ranges(scene: Any, photos: Any, result: Any) -> None:
    small, K = photos
    masks = [np.ones(photo.shape[:2], bool) for photo in small]
    masks[0][:, : SIDE // 2] = False
    masked = infer(scene, small, K, masks=masks, cloud=False)
    assert np.all(masked.depth[0][:, : SIDE // 2] == 0) and np.any(masked.depth[0][:, SIDE // 2 :] > 0)
    of_points = infer(scene, small, K, depth_range=None, points=result.cloud.points, cloud=False)
    assert any("percentile" in note for note in of_points.notes)


def test_options_reach_the_run(scene: Any, photos: Any, result: Any) -> None:
    some = infer(scene, *photos, view=["0001", "0002"], unrefined=True, depth_only=True, weights=engine_mvs.Network())
    assert some.names == ["0001", "0002"] and some.cloud is None
    assert some.manifest["parameters"]["unrefined"] is True
    cut = infer(scene, *photos, roi=(-0.5, -0.5, -50.0, 0.5, 0.5, 50.0))
    assert 0 < len(cut.cloud) < len(result.cloud) and np.all(np.abs(cut.cloud.points[:, :2]) <= 0.5)
    assert any(note.startswith("region of interest: ") for note in cut.notes)


def test_clouds_are_written_whole_or_not_at_all(result: Any, tmp_path: Path) -> None:
    cloud, file = result.cloud, tmp_path / "cloud.ply"
    with pytest.raises(engine_mvs.InputError, match=r"confidence: .* expected numbers of shape \("):
        engine_mvs.Cloud(cloud.points, cloud.normals, cloud.colours, cloud.confidence[:5], cloud.views).write_ply(file)
    with pytest.raises(engine_mvs.InputError, match="points: point 0: .*three finite coordinates"):
        engine_mvs.Cloud(cloud.points * np.nan, *list(vars(cloud).values())[1:]).write_ply(file)
    assert not file.exists()
    # Floats will do where doubles are meant.
    engine_mvs.Cloud(cloud.points.astype(np.float32), *list(vars(cloud).values())[1:]).write_ply(file)
    cloud.write_ply(tmp_path / "doubles.ply")
    assert file.read_bytes() == (tmp_path / "doubles.ply").read_bytes()
    with pytest.raises(engine_mvs.FileError, match="cannot write the point cloud"):
        cloud.write_ply(tmp_path / "none" / "cloud.ply")


def test_fuse_gives_the_run_s_own_cloud(scene: Any, photos: Any, result: Any) -> None:
    colours = [np.floor(photo * np.float32(255) + np.float32(0.5)).astype(np.uint8) for photo in photos[0]]
    cloud = engine_mvs.fuse(
        result.depth,
        colours,
        result.K,
        result.cam_from_world,
        confidence=result.confidence,
        sources=scene.sources,
        min_confidence=0.3,
    )
    # Those of the run went through a file with floats.
    assert len(cloud) == len(result.cloud) and np.allclose(cloud.points, result.cloud.points, rtol=1e-6)
    assert np.array_equal(cloud.colours, result.cloud.colours)
    few = engine_mvs.fuse(result.depth, colours, result.K, result.cam_from_world, preset="colmap")
    assert len(few) > 0
    with pytest.raises(ValueError, match="min-pixel"):
        engine_mvs.fuse(result.depth, colours, result.K, result.cam_from_world, min_pixels=3)
    fuse: Any = engine_mvs.fuse
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"thin": -1.0}, "thin: -1; expected a number above 0"),
        ({"depth_range": (5, 1)}, "depth_range: 5 to 1; expected 0 < near < far"),
        ({"depth_range": (float("nan"), 1)}, "depth_range: NaN to 1; "),
        ({"method": "pyramid"}, "maps of 0 levels"),
        ({"K": 0 * result.K}, "view 0: K: third row 0 0 0; "),
        ({"cam_from_world": result.cam_from_world[:, [1, 0, 2, 3]]}, "view 0: rotation: "),
    ]
    for more, message in wrong:
        cameras = {"K": result.K, "cam_from_world": result.cam_from_world}
        with pytest.raises(engine_mvs.InputError, match=message):
            fuse(result.depth, colours, **{**cameras, **more})
    with pytest.raises(engine_mvs.NothingError, match="the cloud is empty: "):
        fuse([0 * depth for depth in result.depth], colours, result.K, result.cam_from_world)


def test_the_network_alone(scene: Any, photos: Any) -> None:
    small, K = photos
    network = engine_mvs.Network.load()
    features = [network.features(photo) for photo in small[:3]]
    near, far = scene.depth_range[0]
    depth, confidence = network.depth(features, K[:3], scene.cam_from_world[:3], (near, far), planes=24)
    assert depth.shape == confidence.shape == small[0].shape[:2] == features[0].image_size
    assert np.all((depth >= near * 0.99) & (depth <= far * 1.01)) and np.all((confidence >= 0) & (confidence <= 1))
    height, width = small[0].shape[:2]
    assert features[0].arrays()["quarter"].shape == (-(-height // 4), -(-width // 4), 32)
    assert len(network.weights_sha256) == 64
    with pytest.raises(engine_mvs.InputError, match="0 < near < far"):
        network.depth(features, K[:3], scene.cam_from_world[:3], (2.0, 1.0))
    with pytest.raises(engine_mvs.InputError, match="view 1: K: third row 0 0 0"):
        network.depth(features, K[:3] * [[[1]], [[0]], [[1]]], scene.cam_from_world[:3], (near, far))
    with pytest.raises(engine_mvs.InputError, match="planes: 1; expected a whole number from 2 to 65536"):
        network.depth(features, K[:3], scene.cam_from_world[:3], (near, far), planes=1)


def test_errors_are_the_program_s(scene: Any, photos: Any, tmp_path: Path) -> None:
    small, K = photos
    with pytest.raises(ValueError) as wrong:
        infer(scene, small, K, planes=1)
    assert str(wrong.value) == "planes: 1; expected a whole number from 2 to 65536"
    assert isinstance(wrong.value, engine_mvs.InputError) and wrong.value.exit_code == 3
    with pytest.raises(engine_mvs.InputError, match="did you mean `max_side`"):
        infer(scene, small, K, max_sde=3)
    with pytest.raises(OSError) as missing:
        engine_mvs.read_scene(tmp_path / "none")
    ran = engine("infer", tmp_path / "none")
    assert isinstance(missing.value, engine_mvs.FileError)
    assert ran.stderr.startswith("error: ") and ran.returncode == missing.value.exit_code == 4
    # The same reason; the program was about to do something else with the folder.
    assert ran.stderr.strip().endswith(str(missing.value).rsplit(": ", 1)[1])
    for bad, message in (
        ([photo[:, :, 0, np.newaxis] for photo in small], r"images\[0\]: shape"),
        ([photo.astype(np.int64) for photo in small], "uint8 .* or floats"),
        ([photo * 255 for photo in small], "photo 0: the value .*; expected floats from 0 to 1"),
        (small[:3], r"K: .* expected numbers of shape \(3, 3, 3\)"),
        ([], "at least two views|K:"),
    ):
        with pytest.raises(engine_mvs.InputError, match=message):
            infer(scene, bad, K)
    for option, message in (
        ({"format": "colmap"}, "format: an option of how files are read; expected none of these with photos in memory"),
        ({"sources": [[0.5]] * len(scene)}, r"sources\[0\]: \[0.5\]; expected a sequence of whole numbers"),
        ({"roi": (1, 1, 1, 0, 0, 0)}, "roi: 1,1,1,0,0,0; expected X0,Y0,Z0,X1,Y1,Z1 with X0 < X1"),
        ({"threads": 1000}, "threads: 1000, after work with .* had begun"),
    ):
        with pytest.raises(engine_mvs.InputError, match=message):
            infer(scene, small, K, **option)
    for view, side, message in ((-1, None, "view: -1; expected .* 0 to 6"), (0, 0, "max_side: 0; expected .* 1 to ")):
        with pytest.raises(engine_mvs.InputError, match=message):
            scene.photo(view, max_side=side)
    with pytest.raises(MemoryError, match="memory: "):
        infer(scene, small, K, memory=0.01)


def test_progress_is_called_and_may_stop(scene: Any, photos: Any) -> None:
    events: list[dict[str, Any]] = []
    infer(scene, *photos, progress=events.append, cloud=False)
    kinds = {event["event"] for event in events}
    assert {"start", "note", "stage", "step", "summary"} <= kinds
    assert sum(e["event"] == "step" and e["stage"] == "depth" for e in events) == 2 * len(scene)

    class Enough(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            raise Enough

    with pytest.raises(Enough):
        infer(scene, *photos, progress=stop)
    # Being stopped is forgotten.
    assert len(infer(scene, *photos, cloud=False)) == len(scene)


def test_other_threads_go_on(scene: Any, photos: Any) -> None:
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.wait(0.005):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    infer(scene, *photos, cloud=False)
    ended = time.monotonic()
    done.set()
    thread.join()
    during = [at for at in ticks if began < at < ended]
    # A lock that is held would leave none; a loaded machine may leave gaps.
    assert len(during) >= 3


LONG = """
import sys, numpy as np, engine_mvs
scene = engine_mvs.read_scene(sys.argv[1])
loaded = [scene.photo(view) for view in range(len(scene))]
print("ready", flush=True)
try:
    engine_mvs.infer([p for p, _, _ in loaded], np.stack([k for _, _, k in loaded]), scene.cam_from_world,
                     sources=scene.sources, depth_range=scene.depth_range, planes=256)
except KeyboardInterrupt as stopped:
    print("stopped:", stopped, flush=True)
    raise SystemExit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_stops_a_function_and_the_command(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", LONG, str(SCENE)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        time.sleep(1.0)
        running.send_signal(signal.SIGINT)
        said = running.stdout.read()
        assert running.wait(timeout=300) == 7 and "stopped" in said

    words = [sys.executable, "-m", "engine_mvs", "infer", str(SCENE), "-o", str(tmp_path / "out"), "--planes", "256"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while "note: " not in running.stderr.readline():
            pass
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        told = running.stderr.read()
        assert running.wait(timeout=300) == 130, told


def test_the_adapter_of_robust_mvd(scene: Any, photos: Any) -> None:
    sys.path.insert(0, str(ROOT / "python" / "examples"))
    model = importlib.import_module("robust_mvd").EngineModel()
    small, K = photos
    corner = K.copy()
    corner[:, :2, 2] += 0.5
    relative = [pose @ np.linalg.inv(scene.cam_from_world[1]) for pose in scene.cam_from_world[:3]]
    sample = {
        "images": [photo.transpose(2, 0, 1)[np.newaxis] * 255 for photo in small[:3]],
        "keyview_idx": np.array([1]),
        "poses": [pose[np.newaxis] for pose in relative],
        "intrinsics": [k[np.newaxis] for k in corner[:3]],
        "depth_range": [np.array([3.0]), np.array([11.0])],
    }
    prediction, _ = model.output_adapter(model(**model.input_adapter(**sample)))
    assert prediction["depth"].shape == (1, 1, *small[1].shape[:2])
    assert 0 <= prediction["depth_uncertainty"].min() and prediction["depth_uncertainty"].max() <= 1
    features = [model.network.features(np.rint(small[i] * 255).astype(np.uint8)) for i in (1, 0, 2)]
    poses = scene.cam_from_world[[1, 0, 2]]
    depth, _ = model.network.depth(features, K[[1, 0, 2]], poses, (3.0, 11.0), planes=128)
    # Poses from the key view and from the world are one but for rounding.
    assert np.median(np.abs(prediction["depth"][0, 0] - depth) / depth) < 1e-4
