"""Explains thousands of times, from several threads, as a service does; memory, files and threads must stay flat.

    python tools/soak.py                              # 10,000 over 20 small models in 8 threads
    python tools/soak.py --models FOLDER --count 500  # ... and over the .onnx files of a folder

Every thread takes one thing after the other, drawn with a seed: an exact map, a budget, a tolerance, a batch, a stream
that is left early, a callback that raises, a measurement, a target that the model does not have, and an Explainer that
is closed while others explain with it. Before, each model does all of this once: sessions that are opened when they are
first needed, and onnxruntime's arenas, which grow to the largest pass, are no leak. Exact maps are compared bit for bit
with the first of their model and picture.
Exits with 1 if a map differs, an error is not one that was asked for, or memory, open files or threads grow.
"""

import argparse
import ctypes
import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxcam import Explainer, Limits, OnnxCamError, grad_cam, recipro_cam, score_cam

Array = np.ndarray[Any, Any]
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
m (float[N,3,{high},{wide}] x) => (float[N,{classes}] logits)
<float[6,3,3,3] w1, float[{maps},6,3,3] w2, float[{classes},{maps}] w3>
{{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  r1 = {activation} (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = {activation} (c2)
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  logits = Gemm <transB=1> (flat, w3)
}}
"""
ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu")
MEBIBYTE = 2**20
ROUNDS = 10
MOST_PROBLEMS = 20
GROWTH = 64 * MEBIBYTE
"""Bytes that the memory may grow after the first rounds: onnxruntime's arenas, which take 16 MiB at a time when more
threads run one session at once than before."""


class MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2() returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "top",
        )
    )


def memory_in_use() -> int:
    """Bytes that the C library has handed out and not got back; -1 where it does not say.

    What is resident beyond that are freed pieces in its arenas, of which glibc makes up to 8 for each core, as threads
    come and go. They grow for long, and are no leak.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallinfo2"):
        return -1
    library.mallinfo2.restype = MallocInfo
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Raised(Exception):
    """What a callback raises here."""


@dataclass(frozen=True)
class Sample:
    """What the process holds at one moment.

    memory: bytes resident; in_use: those of them that are not free again. -1 where the system does not say.
    """

    done: int
    memory: int
    files: int
    threads: int
    in_use: int = -1

    @staticmethod
    def now(done: int) -> "Sample":
        gc.collect()
        try:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
            files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        except OSError:
            return Sample(done, -1, -1, threading.active_count())
        return Sample(done, pages * os.sysconf("SC_PAGE_SIZE"), files, threads, memory_in_use())

    def __str__(self) -> str:
        memory = f"{self.memory / MEBIBYTE:7.0f} MiB, {self.in_use / MEBIBYTE:7.0f} in use"
        return f"{self.done:>7} done, {memory}, {self.files:4} files, {self.threads:4} threads"


@dataclass(eq=False)
class Soak:
    """The models, the pictures, and what came out. exact: the first map of (model, picture).

    model: the only one that is explained for now; None for all.
    """

    files: Sequence[Path]
    pictures: Sequence[Array]
    exact: dict[tuple[int, int], bytes] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    model: int | None = None
    explainers: list[Explainer] = field(default_factory=list)

    def open(self, number: int) -> Explainer:
        method = (score_cam, grad_cam, recipro_cam)[number % 3]()
        limits = Limits(pixels=10**6, seconds=60)
        return Explainer(
            self.files[number], method, preset="unit", providers=["cpu"], threads=1, cache=False, limits=limits
        )

    def work(self, seed: int, until: int) -> None:
        """One thread, until so many explanations are done by all."""
        draw = random.Random(seed)
        while True:
            with self.lock:
                if self.done.total() >= until or len(self.problems) > MOST_PROBLEMS:
                    return
            name = draw.choice(list(ACTS))
            try:
                ACTS[name](self, draw)
            except (OnnxCamError, Raised, ValueError) as error:
                self.problems.append(f"{name}: {type(error).__name__}: {error}")
            with self.lock:
                self.done[name] += 1

    def chosen(self, draw: random.Random) -> tuple[int, int]:
        model = draw.randrange(len(self.explainers)) if self.model is None else self.model
        return model, draw.randrange(len(self.pictures))

    def warm_up(self) -> None:
        """Does everything with every model: what it opens and measures when it first needs it is no growth later."""
        for model in range(len(self.explainers)):
            self.model, draw = model, random.Random(model)
            for act in (exact, batch, *[budget] * 6, stream, measure, close):
                act(self, draw)
        self.model = None

    def compare(self, model: int, picture: int, saliency: Array) -> None:
        content = saliency.tobytes()
        with self.lock:
            first = self.exact.setdefault((model, picture), content)
        if first != content:
            self.problems.append(f"the map of model {model} and picture {picture} is not the first one")


def exact(soak: Soak, draw: random.Random) -> None:
    model, picture = soak.chosen(draw)
    soak.compare(model, picture, soak.explainers[model](soak.pictures[picture]).map)


def batch(soak: Soak, draw: random.Random) -> None:
    model, _ = soak.chosen(draw)
    numbers = draw.choices(range(len(soak.pictures)), k=3)
    maps = soak.explainers[model].batch([soak.pictures[n] for n in numbers])
    for number, saliency in zip(numbers, maps, strict=True):
        soak.compare(model, number, saliency.map)


def budget(soak: Soak, draw: random.Random) -> None:
    model, picture = soak.chosen(draw)
    explain = soak.explainers[model]
    method = score_cam(budget=draw.randint(2, 5)) if draw.random() < 0.5 else score_cam(tolerance=0.2)
    explain.with_method(method)(soak.pictures[picture])


def stream(soak: Soak, draw: random.Random) -> None:
    model, picture = soak.chosen(draw)
    with closing(soak.explainers[model].stream(soak.pictures[picture])) as maps:  # type: ignore[type-var]
        list(islice(maps, draw.randint(1, 3)))


def callback(soak: Soak, draw: random.Random) -> None:
    model, picture = soak.chosen(draw)

    def progress(*_: object) -> None:
        raise Raised

    try:
        soak.explainers[model].explain(soak.pictures[picture], progress=progress)
    except Raised:
        return


def measure(soak: Soak, draw: random.Random) -> None:
    model, picture = soak.chosen(draw)
    explain = soak.explainers[model]
    saliency = explain(soak.pictures[picture])
    explain.measure(saliency, "deletion", "average-drop", picture=soak.pictures[picture], step=32)


def refused(soak: Soak, draw: random.Random) -> None:
    """A target that is not there, or a picture of too many pixels."""
    model, picture = soak.chosen(draw)
    asked: Callable[[], object] = lambda: soak.explainers[model](soak.pictures[picture], 10**6)  # noqa: E731
    if draw.random() < 0.5:
        asked = lambda: soak.explainers[model](np.zeros((1001, 1000, 3), np.uint8))  # noqa: E731
    try:
        asked()
    except OnnxCamError:
        return
    soak.problems.append("what should be refused was explained")


def close(soak: Soak, draw: random.Random) -> None:
    """An Explainer of its own, closed while another thread explains with it: a map, or an error of one sentence."""
    model, picture = soak.chosen(draw)
    explain = soak.open(model)

    def other() -> None:
        try:
            soak.compare(model, picture, explain(soak.pictures[picture]).map)
        except OnnxCamError:
            return

    thread = threading.Thread(target=other)
    thread.start()
    time.sleep(draw.random() / 500)
    explain.close()
    thread.join()


ACTS: dict[str, Callable[[Soak, random.Random], None]] = {
    act.__name__: act for act in (exact, batch, budget, stream, callback, measure, refused, close)
}


def small_models(folder: Path, number: int) -> list[Path]:
    """Models with random weights, of several sizes and activations."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
    from small_models import filled

    paths = []
    for i in range(number):
        text = MODEL.format(
            high=16 + i % 4 * 4, wide=12 + i % 3 * 4, classes=5 + i, maps=8 + i % 5, activation=ACTIVATIONS[i % 5]
        )
        paths.append(folder / f"small{i}.onnx")
        onnx.save(filled(text, seed=i), paths[-1])
    return paths


def run(files: Sequence[Path], count: int, threads: int, seed: int) -> tuple[Soak, list[Sample]]:
    """Explains in rounds; after each, when the threads have ended, what the process holds is noted and printed."""
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 256, (40 + 3 * i, 50, 3), np.uint8) for i in range(5)]
    soak = Soak(files, pictures)
    soak.explainers = [soak.open(number) for number in range(len(files))]
    soak.warm_up()
    samples = [Sample.now(0)]
    print(samples[0], flush=True)
    for number in range(1, ROUNDS + 1):
        until = count * number // ROUNDS
        workers = [threading.Thread(target=soak.work, args=(seed + 1000 * number + i, until)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        samples.append(Sample.now(soak.done.total()))
        print(samples[-1], flush=True)
    for explain in soak.explainers:
        explain.close()
    return soak, samples


def grown(samples: Sequence[Sample]) -> list[str]:
    """What grew between the first third of the rounds and the last; by then every thread has explained."""
    warm, last = samples[: len(samples) // 3], samples[-1]
    problems = []
    before, after = ([s.memory if s.in_use < 0 else s.in_use for s in part] for part in (warm, [last]))
    if after[0] - max(before) > GROWTH:
        problems.append(f"memory grew from {before[-1] // MEBIBYTE} to {after[0] // MEBIBYTE} MiB")
    if last.files > max(s.files for s in warm):
        problems.append(f"open files grew from {warm[-1].files} to {last.files}")
    if last.threads > max(s.threads for s in warm):
        problems.append(f"threads grew from {warm[-1].threads} to {last.threads}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="explanations (default 10,000)")
    parser.add_argument("--threads", type=int, default=8, help="threads that explain (default 8)")
    parser.add_argument("--small", type=int, default=20, help="small models with random weights (default 20)")
    parser.add_argument("--models", type=Path, help="a folder of .onnx files that are explained as well")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = small_models(Path(folder), args.small)
        if args.models is not None:
            files += sorted(args.models.glob("*.onnx"))
        begin = time.monotonic()
        soak, samples = run(files, args.count, args.threads, args.seed)
        seconds = time.monotonic() - begin
    problems = [*soak.problems, *grown(samples)]
    print(f"{soak.done.total()} explanations of {len(files)} models in {seconds:.0f} s:", dict(soak.done))
    print(f"{len(soak.exact)} maps compared bit for bit with the first; problems: {len(problems)}")
    for problem in problems[:MOST_PROBLEMS]:
        print("  ", problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
