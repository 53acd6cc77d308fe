"""Learned multi-view stereo: calibrated photos in, depth maps and one coloured point cloud out.

Poses are world to camera (``x_cam = R X + t``, OpenCV's axes), pixel centres are integers, depth is along the camera's
axis in the unit of the poses, confidence is 0..1, and 0 in a depth map stands for no depth.
"""

from ._engine import __version__
from ._errors import DeviceError, EngineError, FileError, InputError, MemoryNeedError, NothingError
from ._functions import evaluate, evaluate_cloud, fuse, infer, infer_scene, read_scene, set_threads
from ._network import Features, Network
from ._types import Cloud, Result, Scene

__all__ = [
    "Cloud",
    "DeviceError",
    "EngineError",
    "Features",
    "FileError",
    "InputError",
    "MemoryNeedError",
    "Network",
    "NothingError",
    "Result",
    "Scene",
    "__version__",
    "evaluate",
    "evaluate_cloud",
    "fuse",
    "infer",
    "infer_scene",
    "read_scene",
    "set_threads",
]
