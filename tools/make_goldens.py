"""Makes tests/data/goldens/*.safetensors: outputs of the reference network on small inputs.

    python tools/make_goldens.py [--out tests/data/goldens]

Needs torch, numpy, safetensors; takes about ten seconds. The network is tools/reference/bs_mvsnet.py.

Weights are not stored. They follow from each tensor's name, so that a test makes the same bits again:
    state = FNV-1a-64(name in UTF-8) xor seed         the file's metadata, JSON under the key "golden", names the seeds
    next(): state += 0x9E3779B97F4A7C15; z = state    SplitMix64, all modulo 2^64
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9; z = (z ^ z >> 27) * 0x94D049BB133111EB; return z ^ z >> 31
    u = (next() >> 40) * 2^-24                        one draw an element, in row-major order of the state_dict's shape
and in float64, in exactly this order of operations, rounded once to float32:
    bn.weight, bn.running_var   0.5 + u
    bn.bias, bn.running_mean    (2 u - 1) * 0.3
    other *.bias                (2 u - 1) * 0.1
    other *.weight              ((2 u - 1) * sqrt(3 / fan_in)) * gain
    num_batches_tracked         0
where fan_in is the product of the shape without its first axis, and gain is GAINS' value for the longest suffix that
the name ends with, else 1.5 (it keeps activations of order one through the ReLUs). The last layer's gain is larger, so
that the probability over depth is neither flat nor one spike. Names of a block on its own (blocks.safetensors) are
prefixed by the block: "separable.pointwise1.conv.weight".

All stored tensors are float32, row-major, channels LAST and without the batch axis: maps [H, W], features [H, W, C],
volumes [D, H, W, C], with a single channel's axis dropped. Cameras and depths are float64.
tests/data/goldens/README.md lists the files.

The confidence sums four planes from the floor of the expected index. Where that index is an integer to within rounding,
two correct programs may take different planes. So every network's seed is the first one that keeps all its pixels at
least MARGIN away from an integer and whose logits span a number of units over depth that is in SPAN (median pixel).
"""

import argparse
import json
import math
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent / "reference"))
import bs_mvsnet as ref  # noqa: E402

MASK = (1 << 64) - 1
GAINS = {
    "features.lateral8.weight": 0.7,
    "features.lateral4.weight": 0.7,
    "features.output.weight": 0.25,
    "gate.reduce.weight": 0.7,
    "gate.weight.weight": 1.0,
    "depthwise1.weight": 1.0,
    "depthwise2.weight": 1.0,
    "pointwise2.conv.weight": 0.8,
    "shortcut.conv.weight": 0.8,
    "attention.conv.weight": 0.5,
    "attention1.conv.weight": 0.7,
    "attention2.weight": 0.7,
    "context_global.weight": 0.5,
    "regularizer.logits.weight": 4.0,
    "features.lateral2.weight": 0.7,
    "features.output2.weight": 0.25,
    "features.lateral1.weight": 0.7,
    "features.output1.weight": 0.25,
    "narrow2.logits.weight": 4.0,
    "narrow1.logits.weight": 4.0,
}
DEFAULT_GAIN = 1.5
MARGIN = 1e-3  # of an index; f32 rounding moves the expected index by about 1e-5
SPAN = (4, 14)
VIEWS, HEIGHT, WIDTH, PLANES = 4, 52, 68, 21
NEAR, FAR = 2.0, 6.5
# Feature maps 9 x 5 with 6 planes: every stride-2 step meets odd sizes, and the deepest volumes have one voxel.
SMALL_HEIGHT, SMALL_WIDTH, SMALL_PLANES = 36, 20, 6
# Feature maps 33 x 25 with 67 planes: every level of the regularizer has several voxels along depth and width.
LARGE_HEIGHT, LARGE_WIDTH, LARGE_PLANES = 100, 132, 67


def fnv1a(name: str) -> int:
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK
    return h


def draws(name: str, seed: int, count: int) -> np.ndarray:
    """`count` values u of the generator above, float64."""
    steps = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name) ^ seed) + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def generated(name: str, shape: tuple, seed: int) -> torch.Tensor:
    """One parameter of the recipe in the head."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    u = draws(name, seed, math.prod(shape))
    parts = name.split(".")
    norm = len(parts) > 1 and parts[-2] == "bn"
    if norm and parts[-1] in ("weight", "running_var"):
        value = 0.5 + u
    elif norm:
        value = (2 * u - 1) * 0.3
    elif parts[-1] == "bias":
        value = (2 * u - 1) * 0.1
    else:
        gain = next((GAINS[s] for s in sorted(GAINS, key=len, reverse=True) if name.endswith(s)), DEFAULT_GAIN)
        value = ((2 * u - 1) * math.sqrt(3 / math.prod(shape[1:]))) * gain
    return torch.from_numpy(value.astype(np.float32).reshape(shape))


def fill(module: torch.nn.Module, seed: int, prefix: str = "") -> torch.nn.Module:
    state = {n: generated(prefix + n, tuple(t.shape), seed) for n, t in module.state_dict().items()}
    module.load_state_dict(state)
    return module.eval()


def rotation(axis: tuple, degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = math.radians(degrees)
    return np.eye(3) + math.sin(a) * cross + (1 - math.cos(a)) * cross @ cross


def pose(axis: tuple, degrees: float, t: tuple) -> np.ndarray:
    e = np.eye(4)
    e[:3, :3], e[:3, 3] = rotation(axis, degrees), t
    return e


def inputs() -> dict:
    """Four smooth colourful images and cameras.

    The cameras have rotations, unequal focal lengths, skew and off-centre principal points.
    """
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    images = np.zeros((VIEWS, HEIGHT, WIDTH, 3))
    for view, channel in product(range(VIEWS), range(3)):
        for wave in range(5):
            u = draws(f"image.{view}.{channel}.{wave}", 7, 4)
            fx, fy = (u[0] - 0.5) * 1.2, (u[1] - 0.5) * 1.2
            images[view, :, :, channel] += (0.4 + u[3]) * np.sin(fx * x + fy * y + 2 * math.pi * u[2])
    images = 0.5 + 0.5 * np.tanh(0.7 * images)
    k, e = [], []
    # The second source looks far to the side (much of its warp falls outside the image), and the third stands half a
    # scene ahead.
    poses = [
        pose((0.2, 1, 0.1), 3, (0.1, -0.05, 0.2)),
        pose((0, 1, 0.1), 9, (-0.5, 0.08, 0.15)),
        pose((0.3, -1, 0.2), 17, (0.9, 0.25, -0.1)),
        pose((1, 0.2, 0.7), 8, (0.05, -0.4, -1.3)),
    ]
    for view, p in enumerate(poses):
        f = 61.0 + 5.5 * view
        k.append(np.array([[f, 0.15 * view, 33.2 + 1.7 * view], [0, f * 1.03, 26.1 - 1.1 * view], [0, 0, 1]]))
        e.append(p)
    return {
        "images": torch.from_numpy(images.astype(np.float32)),
        "k": torch.from_numpy(np.stack(k)),
        "e": torch.from_numpy(np.stack(e)),
        "depths": ref.depth_hypotheses(NEAR, FAR, PLANES),
        "depths_inverse": ref.depth_hypotheses(NEAR, FAR, PLANES, True),
    }


def small(scene: dict) -> dict:
    """The same views, cropped at the right and below, with fewer planes."""
    return {
        **scene,
        "images": scene["images"][:, :SMALL_HEIGHT, :SMALL_WIDTH].contiguous(),
        "depths": ref.depth_hypotheses(NEAR, FAR, SMALL_PLANES),
        "depths_inverse": ref.depth_hypotheses(NEAR, FAR, SMALL_PLANES, True),
    }


def large(scene: dict, seed: int) -> dict:
    """Images too big to store, hence generated.

    Value (v, y, x, c) of [V, H, W, 3] is draw u of the name "images" with this seed, rounded to float32. The cameras
    are those of the other goldens with rows 0 and 1 of K doubled.
    """
    shape = (VIEWS, LARGE_HEIGHT, LARGE_WIDTH, 3)
    k = scene["k"].clone()
    k[:, :2] *= 2
    return {
        **scene,
        "images": torch.from_numpy(draws("images", seed, math.prod(shape)).astype(np.float32).reshape(shape)),
        "k": k,
        "depths": ref.depth_hypotheses(NEAR, FAR, LARGE_PLANES),
    }


def run(net: ref.BsMvsNet, scene: dict, inverse: bool, dtype=torch.float32):
    images = scene["images"].permute(0, 3, 1, 2).contiguous().to(dtype)
    depths = scene["depths_inverse" if inverse else "depths"]
    # A copy: the reference scales K in place after cloning, and goldens must not depend on that.
    with torch.inference_mode():
        return net.to(dtype)(images, scene["k"].clone(), scene["e"].clone(), depths, inverse)


def margin(logits: torch.Tensor) -> float:
    """Smallest distance of a pixel's expected index from an integer."""
    p = torch.softmax(logits.double(), 0)
    index = (p * torch.arange(p.shape[0], dtype=torch.float64).view(-1, 1, 1)).sum(0)
    return float((index - index.round()).abs().min())


def span(logits: torch.Tensor) -> float:
    """Largest less smallest logit over depth, at the median pixel."""
    return float((logits.amax(0) - logits.amin(0)).median())


def seeded(config: ref.Config, scenes: list) -> tuple:
    """The network with the first seed whose logits have the wanted span and keep the margin.

    This must hold on all scenes and for both samplings.
    """
    for seed in range(1, 200):
        net = fill(ref.BsMvsNet(config), seed)
        first = run(net, scenes[0], False)[2]
        if SPAN[0] < span(first) < SPAN[1] and all(
            margin(run(net, s, inverse)[2]) > MARGIN for s in scenes for inverse in (False, True)
        ):
            return net, seed
    raise SystemExit(f"no seed below 200 will do for {config}")


def last(x: torch.Tensor, views: bool = False) -> torch.Tensor:
    """[1, C, D, H, W] -> [D, H, W, C]; [V, C, H, W] -> [H, W, C] of view 0, or [V, H, W, C].

    The axis of a single channel is dropped.
    """
    if x.dim() == 5:
        x = x[0].permute(1, 2, 3, 0)
    elif x.dim() == 4:
        x = x.permute(0, 2, 3, 1)
        x = x if views else x[0]
    if x.dim() > 2 and x.shape[-1] == 1:
        x = x[..., 0]
    return x.contiguous().clone()


def submodule_outputs(net: ref.BsMvsNet, scene: dict) -> dict:
    """Every layer's output by its module name.

    A ConvBnReLU counts as one layer: the engine folds its batch norm. The gate runs once a source: gate.1, gate.2,
    gate.3 are its outputs. Its inner layers, which nothing stores, are left out.
    """
    kept, hooks, calls = {}, [], {}

    def hook(name):
        def store(_, args, output):
            calls[name] = calls.get(name, 0) + 1
            if name == "gate":
                kept[f"gate.{calls[name]}"] = last(output)
            elif name == "regularizer":
                kept["cost"], kept["logits"] = last(args[0]), output[0].contiguous().clone()
            elif calls[name] == 1:
                kept[name] = last(output[0] if name == "features" else output, views=name == "features")

        return store

    for name, module in net.named_modules():
        inside = any(isinstance(m, ref.ConvBnReLU) and name.startswith(n + ".") for n, m in net.named_modules())
        if name and not inside and not name.startswith("gate.") and not isinstance(module, torch.nn.Sequential):
            hooks.append(module.register_forward_hook(hook(name)))
    depth, confidence, logits = run(net, scene, False)
    for h in hooks:
        h.remove()
    kept |= {"depth": depth.clone(), "confidence": confidence.clone()}
    assert torch.equal(kept["logits"], logits)
    inverse = run(net, scene, True)
    kept |= {n + "_inverse": t.clone() for n, t in zip(("depth", "confidence", "logits"), inverse)}
    # The same network in float64: what the numbers are without rounding.
    depth64, confidence64, logits64 = run(net, scene, False, torch.float64)
    net.float()
    kept |= {"depth_f64": depth64, "confidence_f64": confidence64, "logits_f64": logits64.contiguous()}
    return kept


def report(name: str, logits: torch.Tensor, confidence: torch.Tensor, seed=None):
    q = [round(float(v), 3) for v in torch.quantile(confidence.flatten(), torch.tensor([0.0, 0.5, 1.0]))]
    print(
        f"{name}: seed {seed}, logits span {span(logits):.1f} over depth (median pixel), "
        f"confidence min/median/max {q}, margin {margin(logits):.1e}"
    )


def narrow(net: ref.BsMvsNet, scene: dict) -> dict:
    """Of the coarse stage the depth, of both narrow stages 1 / depth, logits, guess and spacing; of the features those
    of view 0."""
    kept = {}
    images = scene["images"].permute(0, 3, 1, 2).contiguous()
    for suffix, inverse in [("", False), ("_inverse", True)]:
        depths = scene["depths_inverse" if inverse else "depths"]
        with torch.inference_mode():
            (depth, _), found = net.estimates(images, scene["k"].clone(), scene["e"].clone(), depths, inverse)
        kept["depth" + suffix] = depth.clone()
        for stage, (rho, logits, guess, spacing) in zip(("half", "full"), found):
            for name, t in [("rho", rho), ("logits", logits), ("guess", guess), ("spacing", spacing)]:
                kept[f"{stage}/{name}{suffix}"] = t.expand(rho.shape if name == "spacing" else t.shape).clone()
    mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (ref.IMAGE_MEAN, ref.IMAGE_STD))
    with torch.inference_mode():
        maps = net.features((images - mean) / std)
    kept |= {"half/features": last(maps[1]), "full/features": last(maps[2])}
    return kept


def blocks(seed: int) -> dict:
    """Blocks on their own, with their inputs, at sizes that no power of two divides."""
    out = {}

    def signal(name, *shape):
        return torch.from_numpy((2 * draws(name, seed, math.prod(shape)) - 1).astype(np.float32).reshape(shape))

    def keep(name, y, **xs):
        out.update({f"{name}/{n}": last(x) for n, x in xs.items()} | {f"{name}/output": last(y)})

    with torch.inference_mode():
        for name, size in [("separable", (5, 7, 9)), ("separable_thin", (1, 2, 3))]:
            x = signal(f"{name}/input", 1, 16, *size)
            keep(name, fill(ref.SeparableBlock(16, 32), seed, name + ".")(x), input=x)
        x = signal("refinement/input", 1, 96, 3, 2, 5)
        keep("refinement", fill(ref.AttentionRefinement(96, 64), seed, "refinement.")(x), input=x)
        s, c = signal("fusion/spatial", 1, 64, 3, 5, 7), signal("fusion/context", 1, 64, 3, 5, 7)
        keep("fusion", fill(ref.FeatureFusion(128, 64), seed, "fusion.")(s, c), spatial=s, context=c)
        f = signal("voxel_gate/input", 1, 32, 3, 7, 9)
        keep("voxel_gate", fill(ref.VoxelGate(), seed, "voxel_gate.")(f), input=f)
        f = signal("pixel_gate/input", 1, 32, 3, 7, 9)
        keep("pixel_gate", fill(ref.PixelGate(), seed, "pixel_gate.")(f)[0, 0, 0], input=f)
        for name, factor, low, high in [
            ("upsample2_2d", 2, (4, 5), (7, 10)),
            ("upsample2_3d", 2, (3, 4, 5), (5, 8, 9)),
            ("upsample2_one", 2, (1, 1, 1), (2, 1, 2)),
            ("upsample8_3d", 8, (3, 2, 3), (21, 13, 17)),
        ]:
            x = signal(f"{name}/input", 1, 6, *low)
            keep(name, ref.upsample(x, factor, torch.Size(high)), input=x)

        # Cameras at the features' scale. "behind": the source stands so far ahead that the nearer planes lie behind it.
        k = torch.tensor(
            [[[15.1, 0.1, 7.9], [0, 15.6, 6.2], [0, 0, 1]], [[16.3, 0, 8.4], [0, 16.1, 5.7], [0, 0, 1]]],
            dtype=torch.float64,
        )
        for name, source in [
            ("warp", pose((0.1, 1, 0.05), -8, (-0.6, 0.1, 0.2))),
            ("warp_behind", pose((0.1, 1, 0.3), 12, (-0.5, 0.2, -2.3))),
        ]:
            x = signal(f"{name}/input", 12, 13, 17)
            e = torch.from_numpy(np.stack([pose((1, 0.5, 0), 4, (0.1, 0.2, -0.1)), source]))
            depths = ref.depth_hypotheses(1.5, 6.0, 7, True)
            y = ref.warp(x, k[0], e[0], k[1], e[1], depths)
            zero = float((y == 0).all(0).float().mean())
            assert 0.02 < zero < 0.98, f"{name}: the share of voxels outside is {zero}"
            keep(name, y[None], input=x[None])
            out |= {f"{name}/k": k.clone(), f"{name}/e": e, f"{name}/depths": depths}

        # Soft, sharp and one-sided probabilities; planes fewer than the window; one-hot at either end.
        for planes, scale in [(21, 3.0), (21, 30.0), (3, 3.0), (2, 3.0), (1, 1.0)]:
            name = f"confidence_{planes}_{scale:.0f}"
            logits = scale * signal(name + "/logits", planes, 6, 7)
            p = torch.softmax(logits, 0)
            if planes > 2:
                p[:, 0, 0], p[:, 0, 1] = 0, 0
                p[0, 0, 0], p[planes - 1, 0, 1] = 1, 1
            index = (p.double() * torch.arange(planes, dtype=torch.float64).view(-1, 1, 1)).sum(0)
            near = (index - index.round()).abs()
            assert planes == 1 or near[near > 0].min() > 1e-4, f"{name}: expected index too close to an integer"
            out |= {f"{name}/probability": p.clone(), f"{name}/output": ref.confidence(p).clone()}
    return out


def save(path: Path, tensors: dict, **metadata):
    # One metadata entry: safetensors writes several in random order, and equal goldens should be equal files.
    metadata |= {"torch": torch.__version__.split("+")[0]}
    save_file({n: t.contiguous() for n, t in tensors.items()}, str(path), metadata={"golden": json.dumps(metadata)})
    path.chmod(0o644)
    print(f"  {path.name}: {len(tensors)} tensors, {path.stat().st_size / 1e3:.0f} KB")


def main():
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=here / "tests/data/goldens")
    parser.add_argument("--weights", type=Path, default=here / "weights/bs_mvsnet.safetensors")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # one order of summation, whatever machine makes them
    scene = inputs()
    tiny = small(scene)
    save(
        args.out / "inputs.safetensors",
        scene,
        sizes={"views": VIEWS, "height": HEIGHT, "width": WIDTH, "planes": PLANES, "near": NEAR, "far": FAR},
    )

    combined, seeds = {}, {}
    for aggregation, difference, decoder in product(
        ("voxel", "pixel", "mean", "variance"), ("squared", "signed"), ("skip", "trilinear")
    ):
        config = ref.Config(aggregation, difference, decoder)
        name = f"{aggregation}_{difference}_{decoder}"
        net, seed = seeded(config, [scene, tiny])
        seeds[name] = seed
        for prefix, s in [(name, scene), (name + "/small", tiny)]:
            for suffix, inverse in [("", False), ("_inverse", True)]:
                results = run(net, s, inverse)
                combined |= {
                    f"{prefix}/{n}{suffix}": t.clone() for n, t in zip(("depth", "confidence", "logits"), results)
                }
        report(name, combined[name + "/logits"], combined[name + "/confidence"], seed)
        if name in ("voxel_squared_skip", "pixel_signed_trilinear"):
            layers = submodule_outputs(net, scene)
            rounding = (layers["logits"].double() - layers["logits_f64"]).abs()
            allowed = rounding / (1e-4 + 1e-3 * layers["logits_f64"].abs())
            interval = (FAR - NEAR) / (PLANES - 1)
            moved = (layers["depth"].double() - layers["depth_f64"]).abs().max() / interval
            print(
                f"  torch f32 against f64: logits {rounding.max():.1e}, {allowed.max():.2%} of the tolerance; "
                f"depth {moved:.1e} of an interval"
            )
            save(args.out / f"{name}.safetensors", layers, config=asdict(config), seed=seed)
    save(
        args.out / "configurations.safetensors",
        combined,
        seeds=seeds,
        small={"height": SMALL_HEIGHT, "width": SMALL_WIDTH, "planes": SMALL_PLANES},
    )

    config = ref.Config(resolution="full")
    net, seed = seeded(config, [scene])
    kept = narrow(net, scene)
    for stage in ("half", "full"):
        off = (1 / kept[f"{stage}/rho"] - 1 / kept[f"{stage}/guess"]).abs().median()
        print(f"narrow, {stage}: logits span {span(kept[f'{stage}/logits']):.1f}, moves the depth by {off:.1e}")
    save(args.out / "narrow.safetensors", kept, config=asdict(config), seed=seed)

    # The whole network where no axis of any volume is one voxel wide. The images' seed is chosen for the margin, as the
    # networks' are.
    config = ref.Config()
    net = fill(ref.BsMvsNet(config), seeds["voxel_squared_skip"])
    for seed in range(1, 50):
        results = run(net, large(scene, seed), False)
        if margin(results[2]) > MARGIN / 4:
            break
    else:
        raise SystemExit("no images keep the margin")
    report("large", results[2], results[1], seeds["voxel_squared_skip"])
    save(
        args.out / "large.safetensors",
        {n: t.clone() for n, t in zip(("depth", "confidence", "logits"), results)},
        config=asdict(config),
        seed=seeds["voxel_squared_skip"],
        images_seed=seed,
        sizes={
            "views": VIEWS,
            "height": LARGE_HEIGHT,
            "width": LARGE_WIDTH,
            "planes": LARGE_PLANES,
            "near": NEAR,
            "far": FAR,
        },
    )

    weights = load_file(str(args.weights))
    resolution = "full" if "narrow1.logits.weight" in weights else "quarter"
    net = ref.BsMvsNet(ref.Config(resolution=resolution))
    net.load_state_dict(weights)
    net.eval()
    shipped = {}
    for suffix, inverse in [("", False), ("_inverse", True)]:
        # Narrow stages have their own names: those of the coarse stage are its own results.
        if resolution == "full":
            of_stages = narrow(net, scene)
            shipped |= {"rho" + suffix: of_stages["full/rho" + suffix], "depth" + suffix: of_stages["depth" + suffix]}
            results = run(net, scene, inverse)[1:]
            shipped |= {n + suffix: t.clone() for n, t in zip(("confidence", "logits"), results)}
        else:
            results = run(net, scene, inverse)
            shipped |= {n + suffix: t.clone() for n, t in zip(("depth", "confidence", "logits"), results)}
    report("shipped weights", shipped["logits"], shipped["confidence"])
    save(args.out / "shipped_weights.safetensors", shipped, config=asdict(net.config), weights=args.weights.name)
    save(args.out / "blocks.safetensors", blocks(1), seed=1)


if __name__ == "__main__":
    main()
