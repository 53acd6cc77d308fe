"""Times the reference network (tools/reference/bs_mvsnet.py) in ONNX Runtime on the CPU, if it can be exported.

    python benches/peers/reference_onnx.py --inputs FILE --weights FILE [--output FILE] [--threads 2] [--repetitions 3]

Inputs, outputs and the line of JSON are those of reference_torch.py. The images are the model's input; cameras and
depths are constants in it. Needs onnx and onnxruntime (and onnxscript for torch's newer exporter) beside torch. If the
export fails, or the runtime lacks an operator, the line of JSON has only `failed`, with the reason, and the exit code
is 3.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file, save_file

from reference_torch import ROOT, peak_bytes, ref


class FixedCameras(torch.nn.Module):
    """The network with everything but the images fixed.

    The exporters cannot invert a matrix. The only inverses that the warp takes, those of the reference's camera, are
    constants here, too.
    """

    def __init__(self, net: torch.nn.Module, scene: dict, inverse: bool):
        super().__init__()
        self.net = net
        self.inverse = inverse
        for name in ("k", "e", "depths"):
            self.register_buffer(name, scene[name])
        k = scene["k"][0].clone()
        k[:2] /= 4
        self.register_buffer("inverse_k", torch.linalg.inv(k))
        self.register_buffer("inverse_e", torch.linalg.inv(scene["e"][0]))

    def forward(self, images):
        def known_inverse(matrix):
            return self.inverse_e if matrix.shape[-1] == 4 else self.inverse_k

        with mock.patch.object(torch.linalg, "inv", known_inverse):
            return self.net(images, self.k, self.e, self.depths, self.inverse)


def one_line(error: BaseException) -> str:
    error = error.__cause__ or error  # the exporter wraps what happened in advice
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:300]


def export(model: torch.nn.Module, images: torch.Tensor, path: Path) -> tuple[str, list[str]]:
    """Tries torch's exporters in turn; returns the one that worked, or an empty name, and why the others did not."""
    reasons = []
    for name, options in (("dynamo", {"dynamo": True}), ("TorchScript", {"dynamo": False, "opset_version": 18})):
        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    model,
                    (images,),
                    str(path),
                    input_names=["images"],
                    output_names=["depth", "confidence", "logits"],
                    **options,
                )
            return name, reasons
        except Exception as error:  # whatever the exporter raises is the answer
            reasons.append(f"{name} exporter: {one_line(error)}")
    return "", reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights/bs_mvsnet.safetensors")
    parser.add_argument("--output", type=Path, help="store depth, confidence and logits here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--inverse", action="store_true", help="expectation over 1/depth")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def fail(reason: str):
        print(json.dumps({"program": "reference (ONNX Runtime)", "failed": reason}))
        sys.exit(3)

    try:
        import onnx  # noqa: F401  what torch.onnx.export writes with
        import onnxruntime
    except ImportError as error:
        fail(f"not installed: {error}")

    scene = load_file(str(args.inputs))
    images = scene["images"].permute(0, 3, 1, 2).contiguous()
    net = ref.BsMvsNet()
    net.load_state_dict(load_file(str(args.weights)))
    net.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.onnx"
        exporter, reasons = export(FixedCameras(net, scene, args.inverse).eval(), images, path)
        if not exporter:
            fail("does not export: " + "; ".join(reasons))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            feed = {"images": images.numpy()}
            seconds = []
            for repetition in range(args.warm_up + args.repetitions):
                began = time.perf_counter()
                results = session.run(None, feed)
                if repetition >= args.warm_up:
                    seconds.append(time.perf_counter() - began)
        except Exception as error:  # a missing operator, most likely
            fail(f"exports ({exporter} exporter), but does not run: {one_line(error)}")
    if args.output:
        named = zip(("depth", "confidence", "logits"), results)
        save_file({name: torch.from_numpy(array).float().contiguous() for name, array in named}, str(args.output))
    _, _, height, width = images.shape
    print(
        json.dumps(
            {
                "program": "reference (ONNX Runtime)",
                "torch": torch.__version__,
                "onnxruntime": onnxruntime.__version__,
                "exporter": exporter,
                "exporters_that_failed": reasons,
                "threads": args.threads,
                "load_average": round(os.getloadavg()[0], 2),
                "width": width,
                "height": height,
                "planes": len(scene["depths"]),
                "views": len(images),
                "device": "cpu",
                "seconds_min": round(min(seconds), 5),
                "seconds_median": round(statistics.median(seconds), 5),
                "seconds": [round(s, 5) for s in seconds],
                "peak_bytes": peak_bytes(),
            }
        )
    )


if __name__ == "__main__":
    main()
