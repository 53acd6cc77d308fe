"""How far two runs on the same scene lie apart: compare.py RUN OTHER. Ends with 1 where they are not the same job's."""

import json
import sys
from array import array
from pathlib import Path


def values_of(file):
    """The numbers of a PFM file of one channel."""
    kind, size, scale, rest = file.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    values = array("f", rest)
    if kind != b"Pf" or len(values) != width * height:
        sys.exit(f"{file}: not a PFM file of one channel")
    if (float(scale) < 0) != (sys.byteorder == "little"):
        values.byteswap()
    return values


def main():
    runs = [Path(word) for word in sys.argv[1:]]
    failed = False
    for kind in ("depth", "confidence"):
        names = [sorted(file.name for file in (run / kind).glob("*.pfm")) for run in runs]
        if names[0] != names[1] or not names[0]:
            sys.exit(f"{kind}: {len(names[0])} and {len(names[1])} maps, or other names")
        pixels = same = 0
        apart = []
        for name in names[0]:
            for a, b in zip(*(values_of(run / kind / name) for run in runs), strict=True):
                pixels += 1
                same += a == b
                apart.append(abs(a - b) / (abs(a) or 1))
        apart.sort()
        middle, most, last = (apart[int(share * (pixels - 1))] for share in (0.5, 0.99, 1))
        print(
            f"{kind}: {pixels} pixels in {len(names[0])} maps, {100 * same / pixels:.1f} % the same; "
            f"apart by {middle:.1e} (median), {most:.1e} (99 %), {last:.1e} (most)"
        )
        # Sums in another order differ in their last bits; few pixels lie at a step, where that decides.
        failed |= most > 1e-3
    points = [json.loads((run / "manifest.json").read_text(encoding="utf-8"))["points"] for run in runs]
    print(f"points: {points[0]} and {points[1]}")
    failed |= abs(points[0] - points[1]) > 0.01 * max(points)
    sys.exit(failed)


main()
