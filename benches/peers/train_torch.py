"""Times one training step of the reference network (tools/reference/bs_mvsnet.py) in PyTorch on the CPU.

    python benches/peers/train_torch.py [--inputs FILE] [--write-inputs FILE] [--threads 2] [--inverse] ...

The engine is compared with it. A step: forward with batch norm in train mode, L1 loss (eq. 7), backward, Adam. Prints
one line of JSON: seconds (min, median, all); `peak_bytes`, the high-water mark of the process's resident memory, and
`start_bytes`, what it held before the first step (Python, torch, weights, images); `loss` and `gradient_norm` (L2 over
all parameters) of the first step, before any weight has changed, so that the other side can check its own.

Inputs are those of reference_torch.py, plus the true depth of the reference: images [V, H, W, 3] float32 in 0..1;
k [V, 3, 3], e [V, 4, 4] (world to camera) and depths [D] float64; truth [H/4, W/4] float32 in scene units, 0 where
unknown. Weights are the file's `weights/NAME` tensors if it has them, else those of `--weights`. Without --inputs: the
slanted plane of reference_torch.py with its exact depth.
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reference_torch import ROOT, peak_bytes, ref, textured_plane


def resident_bytes() -> int:
    """What the process holds now; its peak so far where the system does not tell."""
    try:
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def plane_truth(width: int, height: int) -> torch.Tensor:
    """Depth of textured_plane's plane in view 0 at the feature pixels."""
    y, x = torch.meshgrid(torch.arange(0, height, 4).double(), torch.arange(0, width, 4).double(), indexing="ij")
    f = 1.2 * width
    ray_dot_normal = 0.3 * (x - (width - 1) / 2) / f - 0.2 * (y - (height - 1) / 2) / f - 1
    return (-680 / ray_dot_normal).float()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--planes", type=int, default=96)
    parser.add_argument("--views", type=int, default=3, help="reference and sources together")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights/bs_mvsnet.safetensors")
    parser.add_argument(
        "--inputs", type=Path, help="read images, cameras, depths and truth from this file (sizes then come from it)"
    )
    parser.add_argument("--write-inputs", type=Path, help="store the inputs here, weights among them")
    parser.add_argument("--generate-only", action="store_true", help="write the inputs and run nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--inverse", action="store_true", help="expectation over 1/depth")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    if args.inputs:
        scene = load_file(str(args.inputs))
    else:
        scene = textured_plane(args.views, args.width, args.height, args.planes)
        scene["truth"] = plane_truth(args.width, args.height)
    state = {n.removeprefix("weights/"): t for n, t in scene.items() if n.startswith("weights/")}
    state = state or load_file(str(args.weights))
    if args.write_inputs:
        save_file(scene | {f"weights/{n}": t for n, t in state.items()}, str(args.write_inputs))
    if args.generate_only:
        return
    images = scene["images"].permute(0, 3, 1, 2).contiguous()
    _, _, height, width = images.shape
    if height % 4 or width % 4:
        parser.error(f"the network wants sides that are multiples of 4, the images are {width} x {height}")
    depths, truth = scene["depths"], scene["truth"]
    interval = float(depths.max() - depths.min()) / (len(depths) - 1)

    net = ref.BsMvsNet()
    net.load_state_dict(state)
    net.train()
    adam = torch.optim.Adam(net.parameters(), args.learning_rate)
    start = resident_bytes()

    seconds, losses, norm = [], [], None
    for repetition in range(args.warm_up + args.repetitions):
        began = time.perf_counter()
        adam.zero_grad(set_to_none=True)
        depth, confidence, logits = net(images, scene["k"], scene["e"], depths, args.inverse)
        loss = ref.loss(depth, truth, interval)
        loss.backward()
        took = time.perf_counter() - began
        if norm is None:  # not part of a step
            norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in net.parameters()))
        began = time.perf_counter()
        adam.step()
        took += time.perf_counter() - began
        losses.append(float(loss.detach()))
        del depth, confidence, logits, loss
        if repetition >= args.warm_up:
            seconds.append(took)
    print(
        json.dumps(
            {
                "program": "training step of the reference (PyTorch)",
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "processor": platform.processor() or platform.machine(),
                "load_average": round(os.getloadavg()[0], 2),
                "width": width,
                "height": height,
                "planes": len(depths),
                "views": len(images),
                "inverse": args.inverse,
                "seconds_min": round(min(seconds), 3),
                "seconds_median": round(statistics.median(seconds), 3),
                "seconds": [round(s, 3) for s in seconds],
                "peak_bytes": peak_bytes(),
                "start_bytes": start,
                "loss": losses[0],
                "loss_last": losses[-1],
                "gradient_norm": norm,
            }
        )
    )


if __name__ == "__main__":
    main()
