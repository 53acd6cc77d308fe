"""What is written for people and for type checkers is true: help, stubs, docstrings, the tutorial, the command."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import engine_mvs
from engine_mvs import _options

ROOT = Path(__file__).resolve().parents[2]


def engine(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine_mvs", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **more)


def named_in_help(command: str) -> set[str]:
    """The options of a command by its help, as arguments."""
    found = re.findall(r"^ +(?:-\w, )?--([a-z-]+)", engine(command, "--help").stdout, re.M)
    return {name.replace("-", "_") for name in found}


def test_the_command_is_the_program() -> None:
    assert engine("--version").stdout == f"engine {engine_mvs.__version__}\n"
    assert engine("infer").returncode == 2
    assert engine("info", "--json").returncode == 0
    # As pip installs it.
    script = Path(sys.executable).with_name("engine")
    ran = subprocess.run([str(script), "--version"], capture_output=True, text=True)
    assert ran.stdout == f"engine {engine_mvs.__version__}\n", ran.stderr


def test_the_licences_are_in_the_package() -> None:
    files = metadata.files("engine-mvs") or []
    found = {file.name: file.read_text() for file in files if "licenses" in file.parts}
    assert set(found) == {"LICENSE-APACHE", "LICENSE-DejaVuSans", "LICENSE-MIT"}
    assert all(len(text) > 500 for text in found.values())


def test_every_option_of_the_program_is_an_argument() -> None:
    # What the functions have as arguments of their own, or what only a program needs.
    others = {"calibrate", "config", "crs", "export", "filtered_depth", "force", "help", "json", "max_points", "out"}
    others |= {"cache", "outliers", "photos", "ply_names", "profile", "quiet", "report", "shard", "spacing", "verbose"}
    assert set(get_type_hints(_options.FileRunOptions)) == named_in_help("infer") - others
    assert set(get_type_hints(_options.RunOptions)) <= set(get_type_hints(_options.FileRunOptions))
    of_pyramid = {"levels", "trusted_confidence", "replaced_confidence", "coarse_reprojection_px", "doublings"}
    of_pyramid |= {"coarse_depth_error_rel", "coarse_min_views"}
    others = {"method", "preset", "list_presets", "sweep", "reference", "max_distance", "threshold", "keep_best"}
    others |= set(get_type_hints(_options.FileRunOptions)) - set(get_type_hints(_options.FusionConstants))
    others |= {"scene", "out", "force", "json", "quiet", "verbose", "profile", "config", "cache", "help"}
    assert set(get_type_hints(_options.FusionConstants)) == named_in_help("fuse") - others - of_pyramid


def test_help_has_every_option_once() -> None:
    for function, kind in (
        (engine_mvs.infer, _options.RunOptions),
        (engine_mvs.infer_scene, _options.FileRunOptions),
        (engine_mvs.read_scene, _options.FileOptions),
        (engine_mvs.fuse, _options.FusionConstants),
    ):
        words = function.__doc__ or ""
        assert "{" not in words
        for name in get_type_hints(kind):
            assert words.count(f"\n        {name}: ") == 1, (function, name)


def test_docstrings_are_true() -> None:
    names = ["_arrays", "_errors", "_functions", "_network", "_options", "_types"]
    modules = [importlib.import_module(f"engine_mvs.{name}") for name in names]
    found = [doctest.testmod(module) for module in modules]
    assert sum(ran.attempted for ran in found) >= 7 and sum(ran.failed for ran in found) == 0


# A user's script: right calls pass the strictest check, and wrong ones do not (a comment that ignores nothing fails).
SCRIPT = """
from pathlib import Path

import numpy as np
import numpy.typing as npt

import engine_mvs


def deepest(folder: Path) -> float:
    scene = engine_mvs.read_scene(folder, format="mvsnet")
    result = engine_mvs.infer_scene(folder, max_side=96, planes=16, quality="fast", range=(1.0, 2.0), roi="auto")
    maps: list[npt.NDArray[np.float32]] = result.depth
    if result.cloud is not None:
        result.cloud.write_ply(folder / "cloud.ply")
    network = engine_mvs.Network.load()
    photo, mask, k = scene.photo(0, max_side=64)
    features = [network.features(photo), network.features(photo)]
    depth, confidence = network.depth(features, k, scene.cam_from_world[:2], (1.0, 2.0))
    cloud = engine_mvs.fuse(maps, maps, result.K, result.cam_from_world, method="graph", min_pixels=2)
    try:
        engine_mvs.infer([photo], k, scene.cam_from_world, min_confidence=0.5, progress=lambda event: None)
    except engine_mvs.InputError as error:
        print(error.exit_code)
    return float(max(depth.max(), len(cloud)))


engine_mvs.infer_scene("a", max_sde=3)  # type: ignore[call-arg]
engine_mvs.infer_scene("a", planes="many")  # type: ignore[arg-type]
engine_mvs.infer_scene("a", quality="good")  # type: ignore[arg-type]
engine_mvs.fuse([], [], 0, 0, method="pyramid")  # type: ignore[arg-type]
engine_mvs.read_scene(3)  # type: ignore[arg-type]
print(engine_mvs.infer_scene("a").depths)  # type: ignore[attr-defined]
"""


def test_types_are_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(SCRIPT)
    examples = [str(path) for path in (ROOT / "python" / "examples").glob("*.py")]
    for words in (["-p", "engine_mvs"], ["user.py"], examples):
        command = [sys.executable, "-m", "mypy", "--strict", *words]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (Path(engine_mvs.__file__).parent / "py.typed").exists()


def test_the_stubs_name_what_the_module_has() -> None:
    from engine_mvs import _engine

    text = (Path(engine_mvs.__file__).parent / "_engine.pyi").read_text()
    stubs = set(re.findall(r"^(?:def|class) (\w+)", text, re.M))
    assert stubs == {name for name in dir(_engine) if not name.startswith("_")}
    for name in ("Network", "Features", "SceneFiles"):
        body = text.split(f"class {name}:", 1)[1].split("\nclass ", 1)[0]
        methods = set(re.findall(r"def (\w+)", body)) - {"__new__"}
        assert methods == {found for found in dir(getattr(_engine, name)) if not found.startswith("_")}, name


def test_the_tutorial_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "PYTHON.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 8
    monkeypatch.chdir(ROOT)
    exec(compile("\n".join(blocks), "docs/PYTHON.md", "exec"), {"__name__": "tutorial"})
    # Commands of the shell, but for those that build and install: they have been run, or this would not run.
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    commands = [line for line in commands if not line.startswith(("make ", "pip install", "python3 -m venv"))]
    assert len(commands) >= 3
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        ran = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PATH": path}
        )
        assert ran.returncode == 0, (command, ran.stderr)
    assert shutil.which("engine", path=path)
