"""Times the reference network (tools/reference/bs_mvsnet.py) in PyTorch on the CPU or a GPU.

    python benches/peers/reference_torch.py [--inputs FILE] [--write-inputs FILE] [--output FILE] [--threads 2] ...

One reference and `--views` - 1 sources, by default 800 x 600 with 96 planes (volume 32 x 96 x 150 x 200, 50 GFLOP).
Prints one line of JSON: seconds (min, median, all), peak memory in bytes, torch's version and settings. The process
does nothing else, so its peak is the network's: `peak_bytes` is the high-water mark of its resident memory,
`start_bytes` what it held before the first run (Python, torch, weights, images).

It is the engine's peer: both sides can run on the same numbers. `--write-inputs` stores what was generated,
`--inputs` reads it (or a file that the engine wrote), and `--output` stores depth, confidence and logits. Tensors:
images [V, H, W, 3] float32 in 0..1; k [V, 3, 3], e [V, 4, 4] (world to camera) and depths [D] float64; results as in
tests/data/goldens. K is at image scale, and pixel centres are integers.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/reference"))
import bs_mvsnet as ref  # noqa: E402


def peak_bytes() -> int:
    """High-water mark of this process's resident memory.

    ru_maxrss can carry over the parent's from before exec; VmHWM does not.
    """
    try:
        for line in open("/proc/self/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def textured_plane(views: int, width: int, height: int, planes: int) -> dict:
    """A slanted plane with a texture of 48 sines a channel, seen from a row of cameras; near 450, far 950."""
    random = np.random.default_rng(7)
    f = 1.2 * width
    k = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
    normal = np.array([0.3, -0.2, -1.0])
    point = np.array([0, 0, 680.0])
    across = np.array([1, 0, 0.3])
    down = np.array([0, 1, -0.2])
    # Wavelengths from 6 pixels up, at the plane's distance.
    waves = random.uniform(-1, 1, (3, 48, 2)) * 2 * math.pi / (6 * 680 / f)
    phases = random.uniform(0, 2 * math.pi, (3, 48))
    images = np.empty((views, height, width, 3), np.float32)
    es = []
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rays = np.stack([(x - k[0, 2]) / f, (y - k[1, 2]) / f, np.ones_like(x)], -1)
    for view in range(views):
        angle = 0.05 * view
        r = np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
        centre = np.array([-40.0 * view, 8.0 * view, 0.0]) * (-1) ** view
        e = np.eye(4)
        r = r if view % 2 == 0 else r.T
        e[:3, :3], e[:3, 3] = r, -r @ centre
        es.append(e)
        world = rays @ r
        hit = centre + world * (((point - centre) @ normal) / (world @ normal))[..., None] - point
        u, v = hit @ across, hit @ down
        for channel in range(3):
            value = sum(np.sin(a * u + b * v + p) for (a, b), p in zip(waves[channel], phases[channel]))
            images[view, :, :, channel] = 0.5 + 0.5 * np.tanh(0.2 * value)
    return {
        "images": torch.from_numpy(images),
        "k": torch.from_numpy(np.stack([k] * views)),
        "e": torch.from_numpy(np.stack(es)),
        "depths": ref.depth_hypotheses(450, 950, planes),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--height", type=int, default=600)
    parser.add_argument("--planes", type=int, default=96)
    parser.add_argument("--views", type=int, default=4, help="reference and sources together")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights/bs_mvsnet.safetensors")
    parser.add_argument(
        "--inputs", type=Path, help="read images, cameras and depths from this file (sizes then come from it)"
    )
    parser.add_argument("--write-inputs", type=Path, help="store the generated inputs here")
    parser.add_argument("--generate-only", action="store_true", help="write the inputs and run nothing")
    parser.add_argument("--output", type=Path, help="store depth, confidence and logits here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--inverse", action="store_true", help="expectation over 1/depth")
    parser.add_argument(
        "--channels-last", action="store_true", help="convolution weights and images in channels-last order"
    )
    parser.add_argument(
        "--no-inference-mode", action="store_true", help="torch.no_grad instead of torch.inference_mode"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile (needs a C++ compiler)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--autocast",
        choices=["float16", "bfloat16"],
        help="half precision where torch.autocast finds it safe: the warp's coordinates stay in f32",
    )
    parser.add_argument("--tf32", action="store_true", help="allow TF32 products of f32 on a GPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    if args.inputs:
        scene = load_file(str(args.inputs))
    else:
        scene = textured_plane(args.views, args.width, args.height, args.planes)
    if args.write_inputs:
        save_file(scene, str(args.write_inputs))
    if args.generate_only:
        return
    images = scene["images"].permute(0, 3, 1, 2).contiguous()
    _, _, height, width = images.shape
    if height % 4 or width % 4:
        parser.error(f"the network wants sides that are multiples of 4, the images are {width} x {height}")

    cuda = args.device.startswith("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    state = load_file(str(args.weights))
    net = ref.BsMvsNet()
    net.load_state_dict(state)
    net.eval()
    net.to(args.device)
    images = images.to(args.device)
    scene = {name: tensor.to(args.device) for name, tensor in scene.items() if name != "images"}
    if args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.channels_last)
            elif isinstance(module, torch.nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)
    forward = torch.compile(net) if args.compile else net
    mode = torch.no_grad if args.no_inference_mode else torch.inference_mode
    half = contextlib.nullcontext()
    if args.autocast:
        half = torch.autocast(args.device.split(":")[0], dtype=getattr(torch, args.autocast))
    start = peak_bytes()
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    seconds = []
    for repetition in range(args.warm_up + args.repetitions):
        with mode(), half:
            if cuda:
                torch.cuda.synchronize()
            began = time.perf_counter()
            depth, confidence, logits = forward(images, scene["k"], scene["e"], scene["depths"], args.inverse)
            if cuda:
                torch.cuda.synchronize()
            took = time.perf_counter() - began
        if repetition >= args.warm_up:
            seconds.append(took)
        if repetition + 1 < args.warm_up + args.repetitions:
            del depth, confidence, logits
    peak = peak_bytes()
    if args.output:
        results = {"depth": depth, "confidence": confidence, "logits": logits}
        save_file({name: t.float().cpu().clone().contiguous() for name, t in results.items()}, str(args.output))
    print(
        json.dumps(
            {
                "program": "reference (PyTorch)",
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "processor": platform.processor() or platform.machine(),
                "load_average": round(os.getloadavg()[0], 2),
                "width": width,
                "height": height,
                "planes": len(scene["depths"]),
                "views": len(images),
                "channels_last": args.channels_last,
                "inference_mode": not args.no_inference_mode,
                "compile": args.compile,
                "device": torch.cuda.get_device_name() if cuda else "cpu",
                "autocast": args.autocast,
                "tf32": args.tf32,
                "device_peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
                "seconds_min": round(min(seconds), 5),
                "seconds_median": round(statistics.median(seconds), 5),
                "seconds": [round(s, 5) for s in seconds],
                "peak_bytes": peak,
                "start_bytes": start,
            }
        )
    )


if __name__ == "__main__":
    main()
