"""Training on a GPU: ours on JAX, against timm with `torch.compile` on the same card, and whether it learns there.

    python -m benchmarks.training_step --backend jax --device gpu [--batches 128 256 512] [--side 299] [--data FOLDER]

The Python that runs it has JAX, Keras and Pillow; that of --peers, by default the same, torch and timm. TensorFlow does
not have to be there. Everything together takes --seconds at most, 360: what has no time any more is left out, and said
so. In bfloat16, channels last; each measurement in a process of its own, ours and timm's in turn for every batch.

The roofline is the smaller of two: the card's measured rate of a product of two bfloat16 matrices over three times the
multiply-adds of an answer; and its measured rate of copying over `BYTES` for every number that a convolution gives:

    forward    convolution writes 2, statistics read 2, normalisation reads and writes 4, the next convolution reads 2
    backward   gradient of the activation 2, sums 4, gradient of the normalisation 6, of the input 2, of the weights 4

With --data, a folder as for `training_curve`, BN-Inception learns from it, too, for five epochs. --device cpu tries all
this without a GPU, at a small size.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
NETWORK, STEPS = "inception_v3", 20
BYTES = 28
LARGEST_PART = 1 / 3  # of the time, for one measurement: what hangs leaves the others theirs
WANTED = {"H100": 1750.0, "H200": 2500.0}  # images a second at 299 pixels
OURS, TIMM = "ours, JAX", "timm compiled"


class Limits(NamedTuple):
    """Bytes that the device copies in a second, read and written, and floating point operations of a second."""

    device: str
    bandwidth: float
    flops: float


def limits() -> Limits:
    """Those of the device that JAX has."""
    import jax
    import jax.numpy as jnp

    (device, *_) = jax.devices()
    small = device.platform == "cpu"
    side = 1024 if small else 8192
    numbers = jnp.ones((side, side), jnp.bfloat16)
    long = jnp.ones(2**24 if small else 2**30, jnp.bfloat16)
    product = _fastest(jax.jit(jnp.matmul), numbers, numbers)
    copy = _fastest(jax.jit(lambda x: x + 1), long)
    return Limits(device.device_kind, 2 * long.nbytes / copy, 2 * side**3 / product)


def _fastest(function: Any, *given: Any) -> float:
    """Seconds of the fastest of ten calls after two."""
    times = []
    for _ in range(12):
        started = time.perf_counter()
        function(*given).block_until_ready()
        times.append(time.perf_counter() - started)
    return min(times[2:])


def roofline(found: Limits, multiply_adds: float, elements: float) -> float:
    """Images a second that the device can train at most."""
    return min(found.flops / (3 * 2 * multiply_adds), found.bandwidth / (BYTES * elements))


def told(command: Sequence[str], environment: dict[str, str], until: float, most: float) -> list[dict[str, Any]] | str:
    """The JSON objects that a process printed, or why there are none: it has `most` seconds, and ends at `until`."""
    left = min(most, until - time.monotonic())
    if left < 1:
        return "no time was left"
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=left, check=False
        )
    except subprocess.TimeoutExpired:
        return "the time was over"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:300]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def row(by: str, batch: int, found: list[dict[str, Any]] | str, ceiling: float | None) -> dict[str, Any]:
    line: dict[str, Any] = {"by": by, "batch": batch}
    if isinstance(found, str):
        return line | {"failed": found}
    rate = batch / found[-1]["step"]
    line |= {"images a second": round(rate, 1), "first": round(found[-1]["first"], 1)}
    return line | ({"share": round(rate / ceiling, 3)} if ceiling else {})


def measure(
    device: str, batches: Sequence[int], side: int, data: Path | None, seconds: float, peers: Path, python: str
) -> dict[str, Any]:
    until, most = time.monotonic() + seconds, seconds * LARGEST_PART
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
    if device == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    asked = told([python, "-m", "benchmarks.training_gpu"], environment, until, most)
    if isinstance(asked, str):
        raise SystemExit(f"{python} cannot ask JAX what the device does: {asked}")
    able = Limits(**asked[0])
    print(f"{able.device}: {able.flops / 1e12:.1f} TFLOP/s, {able.bandwidth / 1e12:.3f} TB/s", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    ceiling: float | None = None
    curve: list[dict[str, Any]] | str = "no data was named"
    for batch in batches:
        size = [NETWORK, str(side), str(batch), str(STEPS if device == "gpu" else 2)]
        ours = told(
            [python, "-m", "benchmarks.training_worker", "networks", *size, "bfloat16"], environment, until, most
        )
        if not isinstance(ours, str):
            ceiling = roofline(able, ours[-1]["multiply_adds"], ours[-1]["elements"])
        on = "cuda" if device == "gpu" else "cpu"
        command = [str(peers), "-m", "benchmarks.training_peer", "compiled-last", *size, on]
        for by, found in ((OURS, ours), (TIMM, told(command, environment, until, most))):
            rows.append(row(by, batch, found, ceiling))
            print(rows[-1], file=sys.stderr)
        if data and batch == batches[0]:  # the later batches may find no time
            small = ["--pictures", "200", "--epochs", "2"] if device == "cpu" else ["--bfloat16"]
            curve = told([python, "-m", "benchmarks.training_curve", str(data), *small], environment, until, most)
            print(curve, file=sys.stderr)
    return {
        "device": able._asdict(),
        "roofline": ceiling,
        "network": NETWORK,
        "side": side,
        "rows": rows,
        "curve": curve,
    }


def fastest(rows: Sequence[dict[str, Any]], by: str) -> float | None:
    """Images a second."""
    return max((line["images a second"] for line in rows if line["by"] == by and "failed" not in line), default=None)


def verdicts(found: dict[str, Any]) -> list[str]:
    ours, timm = (fastest(found["rows"], by) for by in (OURS, TIMM))
    wanted = next((rate for card, rate in WANTED.items() if card in found["device"]["device"]), None)
    said = []
    if ours and wanted and found["side"] == 299:
        reached = "reached" if ours >= wanted else "missed"
        said.append(f"{OURS} = {ours:.0f} images a second, wanted: at least {wanted:.0f}: {reached}")
    if ours and timm:
        reached = "reached" if ours > timm else "missed"
        said.append(f"{OURS} / {TIMM} = {ours / timm:.3f}, wanted: above 1: {reached}")
    return said


if __name__ == "__main__":
    print(json.dumps(limits()._asdict()))
