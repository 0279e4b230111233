"""What batch normalisation costs in a training step: none, ours on the fused kernel, Keras' own.

    python -m benchmarks.batch_normalization [--network inception_v3 --precision float32] [--rounds N] [--json]

Without a network: eight times convolution 3x3, batch normalisation, ReLU: forward, backward and SGD, float32, without
XLA. The three are timed in turn within one process, in another order every round; ratios are medians over the rounds.

The limit is the machine's: a normalisation has to read its input twice and write once in the forward step, and to read
input and gradient twice and write once in the backward step. That moves eight activations, as much as four copies.

With a network, the whole of it at 149 pixels and batches of 16, in float32 or mixed_bfloat16; each kind in a process
of its own (see network_step), one after the other in every round, with the peak of its memory. The limit is the network
without normalisation.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import models
from benchmarks.machine import machine

BATCH, SIDE, CHANNELS, DEPTH, RATE = 8, 56, 64, 8, 0.01
WARM_UP = 3
KINDS: dict[str, Callable[[], Any] | None] = {
    "none": None,
    "fused": models.BatchNormalization,
    "stock": keras.layers.BatchNormalization,
}
LARGEST_RATIO, LARGEST_SHARE = 0.86, 1 / 3  # fused / stock; (fused - none) / (stock - none)
COPIES = 4  # see above
STEPS = 12  # of a network, in each round
LARGEST_OF_NETWORK = {"float32": 0.92, "mixed_bfloat16": 0.84}  # fused / stock


def training_step(normalization: Callable[[], Any] | None) -> Callable[[], Any]:
    keras.utils.set_random_seed(0)
    x = image = keras.Input((SIDE, SIDE, CHANNELS))
    for _ in range(DEPTH):
        x = keras.layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        if normalization:
            x = normalization()(x)
        x = keras.layers.ReLU()(x)
    model = keras.Model(image, x)
    weights = [weight.value for weight in model.trainable_weights]
    images = tf.random.stateless_normal((BATCH, SIDE, SIDE, CHANNELS), seed=(0, 1))

    @tf.function(jit_compile=False, autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(images, training=True)))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(RATE * gradient)
        return loss

    return step


def copying_step() -> Callable[[], Any]:
    """As many copies of an activation as `DEPTH` normalisations move at the least."""
    images = [tf.random.stateless_normal((BATCH, SIDE, SIDE, CHANNELS), seed=(0, i)) for i in range(COPIES * DEPTH)]

    @tf.function(jit_compile=False, autograph=False)
    def step() -> tf.Tensor:
        copies = [image * 2.0 for image in images]
        return tf.add_n([copy[0, 0, 0, 0] for copy in copies])

    return step


def milliseconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step().numpy()
    return (time.perf_counter() - start) * 1000


def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds per kind and round; the same index is the same round."""
    steps = {"copies": copying_step(), **{name: training_step(kind) for name, kind in KINDS.items()}}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    orders = itertools.cycle(itertools.permutations(steps))
    for order in itertools.islice(orders, rounds):
        for name in order:
            found[name].append(milliseconds(steps[name]))
    return found


def row(name: str, times: Sequence[float], ratio: float, against: str, limit: float) -> dict[str, Any]:
    """`spread` is the distance between the quartiles, `limit` what this machine's memory allows."""
    low, _, high = statistics.quantiles(times, n=4)
    figures = {"median_ms": statistics.median(times), "spread": high - low, "ratio": ratio}
    return {
        "name": name,
        **{key: round(value, 3) for key, value in figures.items()},
        "against": against,
        "limit": limit,
    }


def table(found: dict[str, list[float]]) -> list[dict[str, Any]]:
    def paired(above: str, below: str) -> float:
        return statistics.median(a / b for a, b in zip(found[above], found[below], strict=True))

    def added(name: str) -> list[float]:
        return [time - bare for time, bare in zip(found[name], found["none"], strict=True)]

    copies = round(statistics.median(found["copies"]), 3)
    bare = round(statistics.median(found["none"]), 3)
    limit = round(bare + copies, 3)
    share = statistics.median(added("fused")) / statistics.median(added("stock"))
    return [
        row("none", found["none"], 1.0, "none", bare),
        row("fused", found["fused"], paired("fused", "stock"), "stock", limit),
        row("stock", found["stock"], paired("stock", "none"), "none", limit),
        row("fused - none", added("fused"), share, "stock - none", copies),
    ]


def measure_network(name: str, precision: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, of_kind in found.items():
            command = [sys.executable, "-m", "benchmarks.network_step", name, kind, precision, str(STEPS)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            of_kind.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def network_table(name: str, precision: str, found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """`megabytes` is the median peak of the process."""
    times = {kind: [one["milliseconds"] for one in rounds] for kind, rounds in found.items()}
    limit = round(statistics.median(times["none"]), 3)
    rows = []
    for kind, against in (("none", "stock"), ("fused", "stock"), ("stock", "none")):
        ratio = statistics.median(a / b for a, b in zip(times[kind], times[against], strict=True))
        line = row(f"{name} {precision} {kind}", times[kind], ratio, against, limit)
        rows.append(line | {"megabytes": round(statistics.median(one["bytes"] for one in found[kind]) / 1e6)})
    return rows


def printed(rows: Sequence[dict[str, Any]], title: str, caption: str) -> Table:
    shown = Table(title=title, caption=caption)
    for key in rows[0]:
        shown.add_column(key, justify="left" if key in ("name", "against") else "right")
    for line in rows:
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in line.values()))
    return shown


def verdict(name: str, figure: float, largest: float) -> str:
    return f"{name} = {figure:.3f}, wanted: at most {largest:.3f}: {'reached' if figure <= largest else 'missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=models.NETWORKS, metavar="NAME", help="a name from `networks`")
    parser.add_argument("--precision", choices=LARGEST_OF_NETWORK, default="float32", help="of the network")
    parser.add_argument("--rounds", type=int, help="two at least; 30, or 3 with --network, if left out")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.network else 30)
    if rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    if arguments.network:
        precision = arguments.precision
        title = f"Training step of {arguments.network} in {precision}"
        rows = network_table(arguments.network, precision, measure_network(arguments.network, precision, rounds))
        verdicts = [
            verdict("fused / stock", rows[1]["ratio"], LARGEST_OF_NETWORK[precision]),
            verdict("peak memory of fused / stock", rows[1]["megabytes"] / rows[2]["megabytes"], 1.0),
        ]
    else:
        title = f"Step of {DEPTH} x (conv 3x3 - BN - ReLU) on {BATCH} x {SIDE} x {SIDE} x {CHANNELS}"
        rows = table(measure(rounds))
        verdicts = [
            verdict("fused / stock", rows[1]["ratio"], LARGEST_RATIO),
            verdict("(fused - none) / (stock - none)", rows[3]["ratio"], LARGEST_SHARE),
        ]
    if arguments.json:
        Console().print_json(json.dumps({"machine": machine(), "rows": rows}))
        return
    console = Console()
    console.print(printed(rows, title, f"{machine()}; {rounds} rounds"))
    for sentence in verdicts:
        console.print(sentence)


if __name__ == "__main__":
    main()
