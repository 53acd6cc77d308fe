"""Cameras of photos by pycolmap: features, matches, incremental mapping.

Arguments: database, photos, models, and `one` where all photos are of one camera.
"""
import os
import sys

import pycolmap

# Matching every photo with every other one takes time that grows with the square of their number; above this many,
# each is matched with those that come after it by name.
MOST_FOR_ALL_PAIRS = 500

database, photos, models, cameras = sys.argv[1:5]
mode = pycolmap.CameraMode.SINGLE if cameras == "one" else pycolmap.CameraMode.AUTO
os.makedirs(models, exist_ok=True)
pycolmap.extract_features(database, photos, camera_mode=mode)
count = sum(len(files) for _, _, files in os.walk(photos))
if count <= MOST_FOR_ALL_PAIRS:
    pycolmap.match_exhaustive(database)
else:
    pycolmap.match_sequential(database)
pycolmap.incremental_mapping(database, photos, models)
