"""Scores depth maps against true ones.

    python tools/score_truth.py TRUTH OUT [--min-confidence 0.8]

Compares TRUTH/STEM.pfm with OUT/depth/STEM.pfm pixel by pixel. Prints the median of |d - z| / z and the shares under
0.2 %, 0.5 % and 1 %, in percent, first of all pixels, then of those with at least the given confidence, and how many
those are. Pixels without true depth (0 or not finite) are left out; pixels without estimated depth count as wrong.
"""

import argparse
from pathlib import Path

import numpy as np

from score_points import read_pfm


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("truth", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--min-confidence", type=float, default=0.8)
    args = parser.parse_args()
    rows = {}
    for path in sorted(args.truth.glob("*.pfm")):
        found = args.out / "depth" / path.name
        if not found.exists():
            continue
        z, d, c = read_pfm(path), read_pfm(found), read_pfm(args.out / "confidence" / path.name)
        if z.shape != d.shape:
            raise SystemExit(f"{found}: {d.shape[1]} x {d.shape[0]}, the truth is {z.shape[1]} x {z.shape[0]}")
        valid = np.isfinite(z) & (z > 0)
        error = np.where(np.isfinite(d) & (d > 0), np.abs(d - z) / np.where(valid, z, 1), np.inf)
        sure = valid & (c >= args.min_confidence)
        scores = lambda e: (
            [100 * np.median(e), *(100 * np.mean(e < t) for t in (0.002, 0.005, 0.01))] if e.size else [np.nan] * 4
        )
        rows[path.stem] = [*scores(error[valid]), 100 * sure.sum() / valid.sum(), *scores(error[sure])]
    if not rows:
        raise SystemExit(f"{args.out}/depth: no map named after a file of {args.truth}")
    rows["mean"] = np.nanmean(list(rows.values()), 0)
    wide = max(map(len, rows))
    print(
        " " * wide
        + "".join(
            f"{h:>10}"
            for h in ["median %", "< 0.2 %", "< 0.5 %", "< 1 %", "sure %", "median %", "< 0.2 %", "< 0.5 %", "< 1 %"]
        )
    )
    for name, row in rows.items():
        print(f"{name:<{wide}}" + "".join(f"{v:>10.2f}" for v in row))


if __name__ == "__main__":
    main()
