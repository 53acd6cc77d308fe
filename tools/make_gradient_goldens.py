"""Makes tests/data/goldens/gradients.safetensors: the gradients of one training step in float64.

    python tools/make_gradient_goldens.py [--out tests/data/goldens]

The file covers all 16 configurations, and one with narrow stages. Needs torch, numpy, safetensors; takes two minutes.

Everything is double: weights, images, warp, batch norm, loss. The engine differs from it by the rounding of f32 alone.

Input: that of large.safetensors (tools/make_goldens.py, `large`): four generated images of 132 x 100, 67 planes from 2
to 6.5. No batch norm sees fewer than 6 positions there: of two positions it keeps only the signs, and the gradient
behind it cancels to noise. Batch norm is in train mode. Its statistics are those of the batch, in the feature network
over the pixels of all views together.
Loss: 0.7 L1 + 0.3 cross-entropy, as src/cpu/ops/depth_backward.rs defines both: means over the pixels whose truth is
> 0; L1 in mean intervals (far - near) / (D - 1); cross-entropy against the two planes around the truth, weighted
linearly in the plane's value (depth, or 1 / depth if `inverse`). The file has the truth.

Narrow stages (`voxel_squared_skip_full`): each adds 0.7 L1 + 0.3 cross-entropy + 0.5 log(1 + |t|), as
src/cpu/ops/narrow.rs defines them, t being the truth's place among the hypotheses. `fine_truth` [H, W] is made around
what the network guesses, so that most of its places are within reach: at even pixels of both axes around the guess of
the stage at half resolution, elsewhere around the other's.

Weights are generated as make_goldens.py's head says. Then every bn.bias is raised by NORM_SHIFT and
regularizer.logits.weight multiplied by LOGITS_GAIN (in float32; sharper logits leave no gradient to the L1). With norms
centred at zero some of the millions of activations lie so close to the ReLU's kink that rounding decides on which side.
One of them can move a norm's gradient, a sum that nearly cancels, by percents: two correct programs in float32 would
disagree. Shifted, the ReLUs behind norms still cut off one in two thousand, and agreement is a matter of 1e-5.

Of each parameter tensor, under CONFIGURATION/PARAMETER (the names and the row-major element order of the state_dict),
the file has either
- the whole gradient, up to FULL elements, or
- SAMPLES of its elements, then its L2 norm, then SIGNS dot products with vectors of -1 and 1, so that any wrong element
  shows:
    sample i is element floor(u n) of n, with u draw i of the name "PARAMETER/samples", seed 1;
    element i of vector k is -1 where draw i of "PARAMETER/signs K", seed 1, is below 0.5, else 1.
CONFIGURATION/NORM.running_mean and .running_var are the batch's mean and unbiased variance (running statistics with a
momentum of 1). CONFIGURATION/losses are the loss, L1 and cross-entropy. `NAME_inverse` is configuration NAME with
hypotheses evenly spaced in 1 / depth.

The seed of a configuration's weights is that of configurations.safetensors if it will do, else the next that does. It
will do if every tensor has a gradient (a gate may be dead), no pixel's L1 is at its kink, PyTorch in float32 agrees
with the truth to AGREE, NEARBY networks in float64, whose weights are off by NUDGE, agree to AGREE_NEARBY, and no norm
has an output within MARGIN of the ReLU's kink: no kink that matters is within reach of rounding.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

import make_goldens as goldens
from make_goldens import FAR, NEAR, draws, ref

FULL, SAMPLES, SIGNS = 512, 64, 4
WEIGHTS = {"l1": 0.7, "cross_entropy": 0.3}
GUESS = 0.5
FULL_NAME = "voxel_squared_skip_full"
INVERSE = ("voxel_squared_skip", "pixel_signed_trilinear")
IMAGES_SEED = 2
NORM_SHIFT, LOGITS_GAIN = 3.25, 0.25
AGREE, AGREE_NEARBY = 6e-5, 2e-4
DEEPER = 3  # times as much with narrow stages, whose hypotheses move with what the stages before them find
NEARBY, NUDGE = 4, 2e-6  # some twenty roundings of float32
# A voxel's gate is so close to its kink that arithmetic without fused multiply-adds opens it, which moves the gradient
# of gate.reduce by 1e-3. (Gates have no norm before them whose output could be watched.)
UNLUCKY = {"voxel_squared_skip": {11}}
KINK = 1e-4  # of an interval; f32 moves depth by about 1e-5
MARGIN = 5e-6  # of a norm's deviation; f32 moves its output by about 1e-6


def truth_map(height: int, width: int) -> np.ndarray:
    """Smooth, 2.4 to 6.0; 0 (no truth) in a rectangle and at one pixel in 11."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    truth = 4.2 + 1.3 * np.sin(0.21 * x + 0.3) * np.cos(0.17 * y - 0.4) + 0.5 * np.sin(0.35 * y - 0.12 * x)
    truth[3:8, 5:11] = 0
    truth[(7 * x.astype(int) + 13 * y.astype(int)) % 11 == 0] = 0
    return truth.astype(np.float32)


def cross_entropy(logits: torch.Tensor, values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[D, H, W], [D], [H, W] -> [H, W]: -sum q log p, q the two planes around the target, linear in the values."""
    ascending = values if values[0] < values[1] else -values
    target = target if values[0] < values[1] else -target
    low = (torch.searchsorted(ascending, target.contiguous(), right=True) - 1).clamp(0, len(values) - 2)
    part = ((target - ascending[low]) / (ascending[low + 1] - ascending[low])).clamp(0, 1)
    log_p = torch.log_softmax(logits, 0)
    return -((1 - part) * log_p.gather(0, low[None])[0] + part * log_p.gather(0, low[None] + 1)[0])


def fine_truth(net: ref.BsMvsNet, scene: dict, inverse: bool) -> torch.Tensor:
    """[H, W] in float32: around the guesses of this network, 0 at one pixel in 11, -1 (nothing there) at one in 13."""
    images = scene["images"].permute(0, 3, 1, 2).contiguous().double()
    depths = scene["depths_inverse" if inverse else "depths"]
    with torch.no_grad():
        _, (half, full) = net.estimates(images, scene["k"].clone(), scene["e"].clone(), depths, inverse)
    height, width = full[0].shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = torch.sin(0.31 * x + 0.7) * torch.cos(0.23 * y - 0.2)
    rho = full[2] + full[3] * 1.7 * wave
    rho[::2, ::2] = half[2] + half[3] * 3.9 * wave[::2, ::2]
    truth = (1 / rho.clamp(min=1e-3)).float()
    truth[(7 * x + 13 * y) % 11 == 0] = 0
    truth[(5 * x + 3 * y) % 13 == 0] = -1
    # No pixel near a kink of a loss, or near where it begins to count.
    for rho, logits, guess, spacing in (half, full):
        step = height // rho.shape[0]
        own = truth[::step, ::step].double()
        t = (1 / own - guess) / spacing
        found = (rho - guess) / spacing
        near = [t.abs(), (found - t).abs(), (t.abs() - (len(logits) - 1) / 2).abs()]
        own[(torch.stack(near).amin(0) < 0.02) & (own > 0)] = 0
        truth[::step, ::step] = own.float()
    return truth


def narrow_losses(found: list, truth: torch.Tensor) -> tuple:
    """The stages' losses, and how near any place is to where they have a kink or begin to count."""
    total, kinks = 0, []
    for rho, logits, guess, spacing in found:
        own = truth[:: truth.shape[0] // rho.shape[0], :: truth.shape[1] // rho.shape[1]].to(rho.dtype)
        valid = own > 0
        t = (1 / torch.where(valid, own, torch.ones_like(own)) - guess) / spacing
        hypotheses = len(logits)
        offsets = torch.arange(hypotheses, dtype=rho.dtype) - (hypotheses - 1) / 2
        reach = valid & (t.detach().abs() <= (hypotheses - 1) / 2)
        place = t.detach()
        mean = (logits.softmax(0) * offsets.view(-1, 1, 1)).sum(0)
        l1 = (mean - place).abs()[reach].mean()
        entropy = cross_entropy(logits, offsets, place)[reach].mean()
        of_guess = torch.log1p(t.abs())[valid].mean()
        total = total + WEIGHTS["l1"] * l1 + WEIGHTS["cross_entropy"] * entropy + GUESS * of_guess
        kinks += [(mean - place).abs()[reach].min(), place.abs()[valid].min()]
        kinks += [(place.abs() - (hypotheses - 1) / 2).abs()[valid].min()]
    return total, float(min(kinks)) if kinks else 1.0


def network(config: ref.Config, seed: int) -> ref.BsMvsNet:
    net = goldens.fill(ref.BsMvsNet(config), seed)
    with torch.no_grad():
        net.regularizer.logits.weight *= LOGITS_GAIN
        for module in net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.bias += NORM_SHIFT
                module.momentum = 1.0
    return net.train()


def step(net: ref.BsMvsNet, scene: dict, inverse: bool) -> dict:
    """Losses, gradients and batch statistics of one training step."""
    dtype = next(net.parameters()).dtype
    depths = scene["depths_inverse" if inverse else "depths"]
    images = scene["images"].permute(0, 3, 1, 2).contiguous().to(dtype)
    (depth, logits), found = net.estimates(images, scene["k"].clone(), scene["e"].clone(), depths, inverse)
    truth = scene["truth"].to(dtype)
    valid = truth > 0
    interval = float(depths.max() - depths.min()) / (len(depths) - 1)
    l1 = ref.loss(depth, truth, interval)
    safe = torch.where(valid, truth, torch.ones_like(truth))
    values, target = (1 / depths, 1 / safe) if inverse else (depths, safe)
    entropy = cross_entropy(logits, values.to(dtype), target)[valid].mean()
    loss = WEIGHTS["l1"] * l1 + WEIGHTS["cross_entropy"] * entropy
    narrow, kink = narrow_losses(found, scene["fine_truth"]) if found else (0, 1.0)
    loss = loss + narrow
    loss.backward()
    off = (depth.detach() - truth)[valid].abs() / interval
    return {
        "losses": torch.stack([loss, l1, entropy]).detach(),
        "gradients": {n: p.grad.detach() for n, p in net.named_parameters()},
        "statistics": {n: b.clone() for n, b in net.named_buffers() if "running" in n},
        "kink": min(float(off.min()), kink),
    }


def margin(config: ref.Config, seed: int, scene: dict, inverse: bool) -> float:
    """The smallest |x| that a norm gives to a ReLU, by the deviation of all that it gives."""
    net, found = network(config, seed).double(), []
    for module in net.modules():
        if isinstance(module, ref.ConvBnReLU) and module.relu:
            module.bn.register_forward_hook(lambda _, __, x: found.append(float(x.abs().min() / x.std())))
    with torch.no_grad():
        depths = scene["depths_inverse" if inverse else "depths"]
        images = scene["images"].permute(0, 3, 1, 2).contiguous().double()
        net.estimates(images, scene["k"].clone(), scene["e"].clone(), depths, inverse)
    return min(found)


def sign_vectors(name: str, count: int) -> list:
    return [torch.from_numpy(np.where(draws(f"{name}/signs {k}", 1, count) < 0.5, -1.0, 1.0)) for k in range(SIGNS)]


def excerpt(name: str, gradient: torch.Tensor) -> torch.Tensor:
    """What the file keeps of a gradient."""
    flat = gradient.double().flatten()
    if len(flat) <= FULL:
        return flat
    at = torch.from_numpy((draws(name + "/samples", 1, SAMPLES) * len(flat)).astype(np.int64))
    return torch.cat([flat[at], flat.norm()[None], torch.stack([flat @ s for s in sign_vectors(name, len(flat))])])


def cancelling(name: str, gradients: dict) -> bool:
    """Whether the gradient is zero for any input.

    That is so for a bias that a softmax or a batch norm takes out again. Zero means nothing beside the gradient of the
    weight of the same layer.
    """
    weight = gradients[name.removesuffix(".bias") + ".weight"] if name.endswith(".bias") else gradients[name]
    return float(gradients[name].abs().max()) < 1e-9 * float(weight.abs().max())


def worst(found: dict, truth: dict) -> tuple:
    """The largest error of a float32 gradient, as tests/support/gradient_goldens.rs measures it, and its tensor."""
    errors = []
    for name, b in truth.items():
        scale = truth[name.removesuffix(".bias") + ".weight"] if cancelling(name, truth) else b
        if b.numel() <= FULL:
            errors.append((float((found[name].double() - b).abs().max() / scale.abs().max()), name))
            continue
        a, b = excerpt(name, found[name]), excerpt(name, b)
        samples = (a - b)[:SAMPLES].abs().max() / max(b[:SAMPLES].abs().max(), b[SAMPLES] / scale.numel() ** 0.5)
        errors.append((float(max(samples, (a - b)[SAMPLES:].abs().max() / b[SAMPLES])), name))
    return max(errors)


def nudged(net: ref.BsMvsNet, trial: int) -> ref.BsMvsNet:
    with torch.no_grad():
        for name, p in net.named_parameters():
            u = draws(f"{name}/nudge {trial}", 1, p.numel()).reshape(p.shape)
            p *= 1 + NUDGE * torch.from_numpy(2 * u - 1)
    return net


def seeded(config: ref.Config, first: int, scene: dict, inverse: bool) -> tuple:
    for seed in range(first, first + 100):
        if seed in UNLUCKY.get(f"{config.aggregation}_{config.difference}_{config.decoder}", ()):
            continue
        if margin(config, seed, scene, inverse) < MARGIN:
            continue
        if config.resolution != "quarter":
            scene["fine_truth"] = fine_truth(network(config, seed).double(), scene, inverse)
        truth = step(network(config, seed).double(), scene, inverse)
        gradients = truth["gradients"]
        if any(not g.abs().max() > 0 for g in gradients.values()):
            continue
        nets = [network(config, seed)] + [nudged(network(config, seed).double(), t) for t in range(NEARBY)]
        errors = [worst(step(net, scene, inverse)["gradients"], gradients) for net in nets]
        print(
            f"  seed {seed}: losses {[round(float(v), 3) for v in truth['losses']]}, "
            f"float32 is off by {errors[0][0]:.1e} in {errors[0][1]},",
            f"nearby networks by {max(errors[1:])[0]:.1e}; {truth['kink']:.1e} intervals from the L1's kink",
        )
        more = 1 if config.resolution == "quarter" else DEEPER
        if errors[0][0] <= AGREE * more and max(errors[1:])[0] <= AGREE_NEARBY * more and truth["kink"] >= KINK:
            return seed, truth, errors[0][0]
    raise SystemExit(f"no seed will do for {config}")


def main():
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=here / "tests/data/goldens")
    parser.add_argument(
        "--only", nargs="+", help="make these configurations again and keep what the file has of the others"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation, whatever machine makes them
    scene = goldens.large(goldens.inputs(), IMAGES_SEED)
    height, width, planes = goldens.LARGE_HEIGHT, goldens.LARGE_WIDTH, goldens.LARGE_PLANES
    scene["depths_inverse"] = ref.depth_hypotheses(NEAR, FAR, planes, True)
    scene["truth"] = torch.from_numpy(truth_map(height // 4, width // 4))
    with safe_open(str(args.out / "configurations.safetensors"), "pt") as file:
        firsts = json.loads(file.metadata()["golden"])["seeds"]

    kept, seeds, float32, zero = {"truth": scene["truth"]}, {}, {}, set()
    if args.only:
        with safe_open(str(args.out / "gradients.safetensors"), "pt") as file:
            old = json.loads(file.metadata()["golden"])
            kept |= {n: file.get_tensor(n) for n in file.keys() if n.split("/")[0] not in args.only}
        seeds = {n: s for n, s in old["seeds"].items() if n not in args.only}
        float32, zero = {n: e for n, e in old["float32"].items() if n in seeds}, set(old["zero"])
    kinds = product(("voxel", "pixel", "mean", "variance"), ("squared", "signed"), ("skip", "trilinear"), ("quarter",))
    for aggregation, difference, decoder, resolution in [*kinds, ("voxel", "squared", "skip", "full")]:
        config = ref.Config(aggregation, difference, decoder, resolution)
        plain = f"{aggregation}_{difference}_{decoder}" + ("_full" if resolution == "full" else "")
        for name, inverse in [(plain, False), (plain + "_inverse", True)]:
            if inverse and plain not in INVERSE or name in seeds:
                continue
            print(name)
            seeds[name], truth, float32[name] = seeded(
                config, seeds.get(plain, firsts[plain.removesuffix("_full")]), scene, inverse
            )
            if resolution == "full":
                kept["fine_truth"] = scene["fine_truth"]
            kept[name + "/losses"] = truth["losses"].float()
            kept |= {f"{name}/{n}": excerpt(n, g).float() for n, g in truth["gradients"].items()}
            kept |= {f"{name}/{n}": s.float() for n, s in truth["statistics"].items()}
            zero |= {n for n in truth["gradients"] if cancelling(n, truth["gradients"])}
    print("gradients that are zero for any input:", *sorted(zero))
    goldens.save(
        args.out / "gradients.safetensors",
        kept,
        seeds=seeds,
        images_seed=IMAGES_SEED,
        sizes={"views": goldens.VIEWS, "height": height, "width": width, "planes": planes, "near": NEAR, "far": FAR},
        loss=WEIGHTS,
        norm_shift=NORM_SHIFT,
        logits_gain=LOGITS_GAIN,
        zero=sorted(zero),
        float32={n: e if isinstance(e, str) else f"{e:.1e}" for n, e in float32.items()},
    )


if __name__ == "__main__":
    main()
