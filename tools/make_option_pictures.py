#!/usr/bin/env python3
"""Makes the pictures of docs/CHOOSING.md: what an option changes, in runs that differ by nothing else.

    python tools/make_option_pictures.py INTO --engine PROGRAM [--scene examples/scene] [--photos SCENE] [--only NAME]

The scene in the tree shows what maps look like, SCENE (real photos; fountain-P11 in docs/pictures) what the cloud looks
like. Maps are drawn as their surface, lit from above on the left; grey is where the confidence is below 0.5. Needs
numpy and pillow.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
FONT = HERE.parent / "assets" / "fonts" / "DejaVuSans.ttf"
GAP, HEAD = 8, 26
UNSURE = (120, 120, 128)

# Name, view, crop of the photo (left, top, right, bottom; shares of it), and for each panel what is changed.
MAPS = [
    ("quality", "00000003", (0, 0, 1, 1), ["--quality fast", "--quality normal", "--quality best"]),
    ("resolution", "00000003", (0.42, 0.3, 0.82, 0.7), [f"--resolution {s}" for s in ("quarter", "half", "full")]),
    ("max_side", "00000003", (0.42, 0.3, 0.82, 0.7), ["--max-side 128", "--max-side 256", "(512 x 384)"]),
    ("planes", "00000003", (0, 0, 1, 1), ["--planes 12", "--planes 24", "--planes 96"]),
    ("views", "00000003", (0, 0, 1, 1), ["--views 2", "--views 3", "--views 5"]),
    ("unrefined", "00000003", (0.42, 0.3, 0.82, 0.7), ["--unrefined", "(refined)"]),
]
# Name, and for each panel what is asked of fusion; the clouds of one run of real photos.
CLOUDS = [
    ("min_confidence", [f"--min-confidence {least}" for least in ("0.3", "0.8", "0.97")]),
    ("min_views", [f"--min-views {least}" for least in (1, 3, 6)]),
    ("thin", ["(default)", "--thin 0.03"]),
    ("roi", ["(default)", "--roi=-2.1,-3,3.3,1.7,1.6,5.47"]),
]


def read_pfm(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        kind, size, scale = file.readline().strip(), file.readline().split(), float(file.readline())
        assert kind == b"Pf", path
        values = np.frombuffer(file.read(), "<f4" if scale < 0 else ">f4")
    return np.flipud(values.reshape(int(size[1]), int(size[0]))).astype(float)


def surface(out: Path, name: str) -> Image.Image:
    """A view's depth map as a lit surface."""
    view = next(v for v in json.loads((out / "manifest.json").read_text())["views"] if v["name"] == name)
    depth, confidence = read_pfm(out / "depth" / f"{name}.pfm"), read_pfm(out / "confidence" / f"{name}.pfm")
    k = np.array(view["map_k"])
    v, u = np.indices(depth.shape)
    at = np.stack([(u - k[0, 2]) / k[0, 0] * depth, (v - k[1, 2]) / k[1, 1] * depth, depth], -1)
    normal = np.cross(np.gradient(at, axis=0), np.gradient(at, axis=1))
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    normal *= -np.sign(normal[..., 2:])
    light = np.array([-0.5, -0.6, -0.62])
    shade = 0.15 + 0.85 * np.clip(normal @ (light / np.linalg.norm(light)), 0, 1)
    picture = np.repeat((255 * shade)[..., None], 3, -1) * np.array([1.0, 0.97, 0.9])
    picture[(confidence < 0.5) | (depth <= 0)] = UNSURE
    return Image.fromarray(picture.astype(np.uint8))


def run(*words: object) -> None:
    said = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if said.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{said.stderr}")


def beside(panels: list[tuple[str, Image.Image]], file: Path) -> None:
    """Writes pictures side by side, each below its name."""
    width = (1200 - GAP * (len(panels) - 1)) // len(panels)
    height = max(round(width * image.height / image.width) for _, image in panels)
    sheet = Image.new("RGB", (1200, HEAD + height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(FONT), 17)
    for at, (title, image) in enumerate(panels):
        left = at * (width + GAP)
        # Pixels of coarse maps stay visible.
        how = Image.Resampling.NEAREST if image.width < width else Image.Resampling.LANCZOS
        sheet.paste(image.resize((width, round(width * image.height / image.width)), how), (left, HEAD))
        draw.text((left + 2, 2), title, font=font, fill=(20, 20, 20))
    for quality in range(88, 40, -4):
        sheet.save(file, quality=quality, optimize=True)
        if file.stat().st_size < 150_000:
            break
    print(f"{file}: {file.stat().st_size} bytes")


def options_of(title: str) -> list[str]:
    """What a panel's title adds to the command; titles in brackets add nothing."""
    return [] if title.startswith("(") else title.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("into", type=Path)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--scene", type=Path, default=HERE.parent / "examples" / "scene")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--only")
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for name, view, crop, titles in MAPS:
            if args.only not in (None, name):
                continue
            panels = []
            for title in titles:
                out = Path(work) / (title.replace(" ", "_").strip("()") or "default")
                run(args.engine, "infer", args.scene, "-o", out, "--quiet", "--depth-only", *options_of(title))
                image = surface(out, view)
                box = [round(share * side) for share, side in zip(crop, image.size * 2)]
                panels.append((title, image.crop(box)))
            beside(panels, args.into / f"option_{name}.jpg")
        clouds = [cloud for cloud in CLOUDS if args.photos and args.only in (None, cloud[0])]
        out = Path(work) / "photos"
        if clouds:
            run(args.engine, "infer", args.photos, "-o", out, "--quiet", "--max-side", "768")
        for name, titles in clouds:
            panels = []
            for at, title in enumerate(titles):
                fused, drawn = Path(work) / f"{name}_{at}", Path(work) / f"{name}_{at}.png"
                run(args.engine, "fuse", out, "-o", fused, "--quiet", *options_of(title))
                seen_from = ["--turn", 25, "--back", 1.05, "--width", 768]
                run(sys.executable, HERE / "render_cloud.py", fused, drawn, *seen_from)
                panels.append((title, Image.open(drawn).convert("RGB")))
            beside(panels, args.into / f"option_{name}.jpg")


if __name__ == "__main__":
    main()
