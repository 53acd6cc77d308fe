"""Reads the meshes of `engine mesh` with trimesh and compares them with what mesh.json says of them.

    python tools/check_meshes.py FOLDER

FOLDER holds mesh.json and the files that it lists. Prints a line for each file; ends with 1 where one is not as it
should be. Needs numpy and trimesh.
"""

import json
import sys
from pathlib import Path

import numpy as np
import trimesh


def main():
    folder = Path(sys.argv[1])
    report = json.loads((folder / "mesh.json").read_text())
    wrong, first = [], None
    for name in report["files"]:
        mesh = trimesh.load(folder / name, process=False, force="mesh")
        edges, counts = np.unique(np.sort(mesh.edges, 1), axis=0, return_counts=True)
        found = {
            "vertices": len(mesh.vertices),
            "triangles": len(mesh.faces),
            "border_edges": int((counts == 1).sum()),
            "manifold": bool((counts <= 2).all() and mesh.is_winding_consistent),
            "closed": bool(mesh.is_watertight),
        }
        expected = {key: report[key] for key in found}
        if found != expected:
            wrong.append(f"{name}: {found}, not {expected}")
        middle = mesh.vertices.mean(0)
        if first is None:
            first = middle
        if np.abs(middle - first).max() > 1e-6 * max(1.0, np.abs(first).max()):
            wrong.append(f"{name}: its middle is {middle}, not {first}")
        print(f"{name}: {found['vertices']} vertices, {found['triangles']} triangles, "
              f"{found['border_edges']} border edges, Euler number {mesh.euler_number}")
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
