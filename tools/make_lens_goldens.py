"""Makes tests/data/lenses.json: where rays end up in photos, by COLMAP's camera models and by OpenCV's.

    pip install pycolmap opencv-python numpy
    python tools/make_lens_goldens.py

Each entry has a model's name (COLMAP's, or cv2 and a number of coefficients), its parameters, rays (x, y, 1), and the
photo's coordinates of each: COLMAP's with the first pixel's centre at (0.5, 0.5), OpenCV's with an identity as K.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pycolmap

FOCAL = [410.0, 395.5, 322.25, 238.5]
ONE = [410.0, 322.25, 238.5]
MODELS = {
    "SIMPLE_RADIAL": ONE + [-0.11],
    "RADIAL": ONE + [-0.11, 0.05],
    "OPENCV": FOCAL + [-0.11, 0.05, 0.003, -0.002],
    "FULL_OPENCV": FOCAL + [-0.11, 0.05, 0.003, -0.002, 0.02, 0.07, -0.03, 0.01],
    "OPENCV_FISHEYE": FOCAL + [0.05, -0.02, 0.004, -0.001],
    "SIMPLE_RADIAL_FISHEYE": ONE + [0.05],
    "RADIAL_FISHEYE": ONE + [0.05, -0.02],
    "FOV": FOCAL + [0.85],
    "THIN_PRISM_FISHEYE": FOCAL + [0.05, -0.02, 0.003, -0.002, 0.004, -0.001, 0.0015, -0.0025],
    "RAD_TAN_THIN_PRISM_FISHEYE": FOCAL + [0.05, -0.02, 0.004, -0.001, 0.0007, -0.0003, 0.003, -0.002,
                                           0.0015, -0.0025, 0.0008, -0.0004],
    "SIMPLE_DIVISION": ONE + [-0.12],
    "DIVISION": FOCAL + [0.09],
    "SIMPLE_FISHEYE": ONE,
    "FISHEYE": FOCAL,
    "EUCM": FOCAL + [0.6, 1.1],
    "EQUIRECTANGULAR": [640.0, 480.0],
}
# k1 k2 p1 p2 k3, k4 k5 k6 (rational), s1 s2 s3 s4 (thin prism), tau_x tau_y (tilted sensor).
COEFFICIENTS = [-0.11, 0.05, 0.003, -0.002, 0.02, 0.07, -0.03, 0.01, 0.0015, -0.0025, 0.0008, -0.0004, 0.06, -0.04]


def main():
    random = np.random.default_rng(7)
    rays = np.concatenate([random.uniform(-0.7, 0.7, (12, 2)), [[0.0, 0.0], [1e-9, 0.0]]])
    homogeneous = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    entries = []
    for model, parameters in MODELS.items():
        camera = pycolmap.Camera(model=model, width=640, height=480, params=parameters)
        pixels = np.asarray(camera.img_from_cam(homogeneous))
        entries.append({"model": model, "parameters": parameters, "pixels": pixels.tolist()})
    for count in (5, 8, 12, 14):
        coefficients = COEFFICIENTS[:count]
        pixels, _ = cv2.projectPoints(homogeneous, np.zeros(3), np.zeros(3), np.eye(3), np.array(coefficients))
        # Back through OpenCV's other function: what is kept is what both of them mean.
        steps = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-15)
        back = cv2.undistortPoints(pixels, np.eye(3), np.array(coefficients), criteria=steps).reshape(-1, 2)
        assert np.abs(back - rays).max() < 1e-9, (count, np.abs(back - rays).max())
        entries.append({"model": f"cv2 {len(coefficients)}", "parameters": coefficients,
                        "pixels": pixels.reshape(-1, 2).tolist()})
    k = [0.05, -0.02, 0.004, -0.001]
    pixels, _ = cv2.fisheye.projectPoints(homogeneous.reshape(-1, 1, 3), np.zeros((3, 1)), np.zeros((3, 1)), np.eye(3),
                                          np.array(k))
    entries.append({"model": "cv2 fisheye", "parameters": k, "pixels": pixels.reshape(-1, 2).tolist()})
    # Directions all around, and what a panorama makes of them.
    around = random.normal(size=(12, 3))
    camera = pycolmap.Camera(model="EQUIRECTANGULAR", width=640, height=480, params=MODELS["EQUIRECTANGULAR"])
    panorama = {"directions": around.tolist(), "pixels": [camera.img_from_cam(d).tolist() for d in around]}
    path = Path(__file__).parent.parent / "tests" / "data" / "lenses.json"
    versions = {"pycolmap": pycolmap.__version__, "cv2": cv2.__version__}
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    head = json.dumps({"made_with": versions, "rays": rays.tolist(), "panorama": panorama})[:-1]
    path.write_text(f"{head},\n\"models\": [\n{lines}\n]}}\n")


main()
