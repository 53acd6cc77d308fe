"""Reads the maps of `engine map` with rasterio and compares them with what map.json says of them; rio-cogeo says
whether they are cloud-optimised.

    python tools/check_maps.py FOLDER [--png FOLDER]

FOLDER holds map.json and the files that it lists. Prints a line for each file; ends with 1 where one is not as it
should be. With --png it draws each as a picture: heights shaded, from blue (low) to red (high). Needs numpy, rasterio
and rio-cogeo; for pictures Pillow, too.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import rasterio
from rio_cogeo.cogeo import cog_validate

# Longer sides of pictures.
MOST_PIXELS = 1600


def shaded(heights):
    """Colours of heights, lit from the upper left."""
    heights, there = heights.filled(np.nan), ~np.ma.getmaskarray(heights)
    low, high = np.nanpercentile(heights, [1, 99])
    share = np.nan_to_num(np.clip((heights - low) / max(high - low, 1e-9), 0, 1))
    # A quarter of the range in one hundredth of the picture is a slope of one.
    slope_y, slope_x = np.gradient(heights / max(high - low, 1e-9) * 0.04 * max(heights.shape))
    normal = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    light = np.clip(0.35 + 0.65 * np.nan_to_num((slope_x + slope_y + 1.4) * normal / 1.7, nan=0.6), 0, 1)
    hue = np.stack([np.clip(1.5 - abs(4 * share - k), 0, 1) for k in (3, 2, 1)], -1)
    colours = 255 * (0.35 + 0.65 * hue) * light[..., None]
    return np.where(there[..., None], colours, 255).astype(np.uint8)


def draw(raster, path):
    from PIL import Image

    factor = max(1, -(-max(raster.shape) // MOST_PIXELS))
    shape = tuple(max(1, side // factor) for side in raster.shape)
    if raster.count == 1:
        picture = shaded(raster.read(1, out_shape=shape, masked=True))
    else:
        picture = np.moveaxis(raster.read(out_shape=(4, *shape)), 0, -1)
    Image.fromarray(picture).save(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--png", type=Path, help="where pictures go")
    words = parser.parse_args()
    report = json.loads((words.folder / "map.json").read_text())
    wrong = []
    for name in report["files"]:
        is_valid, errors, warnings = cog_validate(words.folder / name, strict=True, quiet=True)
        if not is_valid or errors or warnings:
            wrong.append(f"{name}: {errors} {warnings}")
        with rasterio.open(words.folder / name) as raster:
            mask = raster.dataset_mask()
            found = {
                "size": [raster.width, raster.height],
                "bounds": list(raster.bounds),
                "gsd": raster.transform.a,
                "crs": raster.crs.to_string() if raster.crs else None,
                "there": int((mask > 0).sum()),
            }
            there = report["heights"] - (report["unseen"] if raster.count == 4 else 0)
            expected = {"size": report["size"], "bounds": report["bounds"], "gsd": report["gsd"],
                        "crs": report["options"]["crs"], "there": there}
            for key, value in expected.items():
                is_close = key in ("bounds", "gsd") and np.allclose(found[key], value, rtol=1e-12, atol=1e-6)
                if not is_close and found[key] != value:
                    wrong.append(f"{name}: {key} is {found[key]}, not {value}")
            overviews = raster.overviews(1)
            levels = int(np.ceil(np.log2(max(max(report["size"]) / 512, 1))))
            if overviews != [2 ** (level + 1) for level in range(levels)]:
                wrong.append(f"{name}: overviews {overviews}, not {levels} of them")
            print(f"{name}: {raster.width} x {raster.height} cells of {raster.transform.a}, {raster.dtypes[0]} x "
                  f"{raster.count}, {found['crs']}, overviews {overviews}, {found['there']} cells with a value")
            if words.png:
                words.png.mkdir(parents=True, exist_ok=True)
                draw(raster, words.png / Path(name).with_suffix(".png").name)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
