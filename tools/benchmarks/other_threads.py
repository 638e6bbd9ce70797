"""Do the threads of a service keep their pace while one of them is given a bomb?

    python tools/benchmarks/other_threads.py [--seconds SECONDS]

One thread explains a small model again and again. In turns nothing runs beside it, or a second thread explains the
small model too, explains a picture for which a model loops for ever (until its deadline), gives a picture of 25,000
squared that is refused, or opens a model of 20,000 nodes. Printed is the pace of the first thread in each state as a
share of its pace alone, medians of interleaved rounds, and the longest time of one map.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import onnx
import onnx.parser

from onnxcam import Explainer, Limits, OnnxCamError
from onnxcam.inputs.presets import preset_named

ROUNDS = 5
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,32,32] x) => (float[N,5] y)'
LAYERS = """{ {before}
  c = Conv <kernel_shape=[3,3], strides=[2,2]> ({source}, w)  f0 = Relu (c) {chain}
  p = GlobalAveragePool (f{last})  z = Flatten (p)  y = MatMul (z, v) }"""
LOOP = """brightest = ReduceMax <keepdims=0> (x)  seventh = Constant <value_float=7.0> ()
  many = Pow (brightest, seventh)  rounds = Cast <to=7> (many)
  looped = Loop <body = step (int64 i, bool go, float[N,3,32,32] a) => (bool on, float[N,3,32,32] b)
    { b = Identity (a)  on = Identity (go) }> (rounds, , x)"""


def model(*, endless: bool = False, nodes: int = 0) -> onnx.ModelProto:
    """A classifier. endless: with a Loop of as many rounds as a bright picture says. nodes: rectifiers in a chain."""
    chain = " ".join(f"f{i + 1} = Relu (f{i})" for i in range(nodes))
    layers = LAYERS.replace("{before}", LOOP if endless else "").replace("{source}", "looped" if endless else "x")
    proto = onnx.parser.parse_model(HEAD + layers.replace("{chain}", chain).replace("{last}", str(nodes)))
    rng = np.random.default_rng(0)
    for name, shape in (("w", (8, 3, 3, 3)), ("v", (8, 5))):
        numbers = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
    return proto


def pace(explainer: Explainer, picture: np.ndarray, seconds: float) -> tuple[float, float]:
    """(maps a second, the longest time of one in seconds)."""
    times, end = [time.monotonic()], time.monotonic() + seconds
    while times[-1] < end:
        explainer(picture)
        times.append(time.monotonic())
    return (len(times) - 1) / (times[-1] - times[0]), max(np.diff(times))


def beside(bomb: Callable[[], object], measured: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The measurement while another thread does this up to fifty times a second."""
    stop = threading.Event()

    def again() -> None:
        while not stop.wait(0.02):
            with suppress(OnnxCamError):
                bomb()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        return measured()
    finally:
        stop.set()
        thread.join()


def main(seconds: float) -> None:
    limits = Limits(seconds=seconds)
    options = {"preset": preset_named("raw"), "providers": ["cpu"], "cache": False, "threads": 1}
    bright = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    huge = np.broadcast_to(np.uint8(7), (25_000, 25_000, 3))
    large = model(nodes=20_000).SerializeToString()
    explainer, second = (Explainer(model(), **options) for _ in range(2))
    endless = Explainer(model(endless=True), limits=limits, **options)
    states: dict[str, Callable[[], object] | None] = {
        "alone": None,
        "beside the same work": lambda: second(bright),
        "beside an endless loop": lambda: endless(bright),
        "beside 25,000 squared": lambda: explainer(huge),
        "beside an opening": lambda: Explainer(large, limits=limits, **options),
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in states}
    for _ in range(ROUNDS):
        for name, bomb in states.items():

            def measured() -> tuple[float, float]:
                return pace(explainer, bright, seconds)

            results[name].append(measured() if bomb is None else beside(bomb, measured))
    for name, pairs in results.items():
        shares = [pair[0] / alone[0] for pair, alone in zip(pairs, results["alone"], strict=True)]
        longest = statistics.median(pair[1] for pair in pairs)
        print(f"{name:24} {statistics.median(shares):5.2f} of the pace, longest map {1000 * longest:6.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    main(parser.parse_args().seconds)
