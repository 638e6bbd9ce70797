"""Measure gradients of ONNX graphs, and Opti-CAM on top of them, against PyTorch side by side in one run.

    pip install ".[cpu,torch]" && pip install --no-deps muppet-xai loguru
    python tools/benchmark_gradients.py --pictures FOLDER --json gradients.json

Parts, each alone with --only:

    cost       a step (score and gradient) / a forward pass; PyTorch eager / a step
    building   seconds that the gradient graph takes to build, the model already opened
    search     a whole Opti-CAM: PyTorch eager / onnxcam; four pictures in one batch / one by one
    parity     the search against the same one written in PyTorch: coefficients and score
    quality    how often Opti-CAM's mask scores higher than Score-CAM's
    precision  how far two correct runs of the search part, by Adam's epsilon
    muppet     Score-CAM and Opti-CAM of muppet-xai on the same weights; left out where it is not installed

Timings are medians of samples, the cases taking turns. On a shared machine only samples count in which other processes
took next to nothing; the note says how much it was. Both sides have two threads. EfficientNet-Lite0 is the embedded
model where time counts and its float32 original where numbers are compared; ResNet-50 and VGG-16 have random weights.
"""

import argparse
import inspect
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from benchmark import THREADS, Rows, _stand_in_for_torchvision, row
from build_models import clean, export, finish, module, read_labels
from rich.console import Console
from rich.table import Table
from torch_models import (
    Lite0,
    Step,
    coefficient_gradient,
    exported,
    frozen,
    mask_of,
    opti_cam,
    resnet50,
    score_gradient,
    vgg16,
)

from onnxcam import Explainer, score_cam
from onnxcam import methods as ours
from onnxcam.arrays import Floats, Score
from onnxcam.differentiation import noise_rows, step_graph
from onnxcam.embedded import model, pictures
from onnxcam.engine.session import Session
from onnxcam.methods.blocks import Convention, Method, live
from onnxcam.methods.opti_cam import Settings, coefficients
from onnxcam.preparation import Opened, Wish, open_network
from onnxcam.probe import PictureProbe
from onnxcam.surgeon import graph
from onnxcam.surgeon.loading import ModelFile, read_model
from onnxcam.surgeon.masking import IMAGE, MAPS
from onnxcam.surgeon.stepping import GRADIENT, SCORE, Wrt

QUIET = 0.04
"""Of the machine, what other processes may take in a sample that counts."""
SHORTEST = 0.3
"""Seconds of a sample; the system counts in hundredths."""
STEPS, RATE = 100, 0.2
LOOKED_AT = (5, 20, 60, 100)
"""Steps at which runs are compared."""
MOST_PICTURES = 36
MAIN = ("onnxcam", "PyTorch 2 threads")
PAIRS = (("PyTorch 1 thread", "PyTorch 2 threads"), ("PyTorch 2 threads", "float64"), ("onnxcam", "float64"))

Case = Callable[[], object]


# ---- Time -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """seconds of each case, as samples; others: the largest share of the machine that other processes had in one."""

    seconds: dict[str, list[float]]
    others: float

    def median(self, case: str) -> float:
        return statistics.median(self.seconds[case])

    def ratio(self, above: str, below: str) -> float:
        return self.median(above) / self.median(below)

    def note(self) -> str:
        times = ", ".join(f"{case} {1000 * self.median(case):.4g} ms" for case in self.seconds)
        fewest = min(len(s) for s in self.seconds.values())
        return f"{times}; {fewest} samples each, others took {self.others:.0%} at most"


def samples(cases: dict[str, Case], count: int, patience: float) -> Times:
    """Rounds over the cases, until each has `count` quiet samples or `patience` seconds are over: then the quietest.

    What comes first in a process is not counted.
    """
    for case in cases.values():
        case()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    start = time.perf_counter()
    while open_ := [name for name in cases if sum(share <= QUIET for share, _ in found[name]) < count]:
        if time.perf_counter() - start > patience and all(len(found[name]) >= count for name in cases):
            break
        for name in open_:
            found[name].append(sample(cases[name]))
    kept = {name: sorted(taken)[:count] for name, taken in found.items()}
    others = max(share for taken in kept.values() for share, _ in taken)
    return Times({name: [seconds for _, seconds in taken] for name, taken in kept.items()}, others)


def sample(case: Case) -> tuple[float, float]:
    """What others took of the machine meanwhile, and seconds a call; short cases are called several times."""
    busy, start, calls = busy_elsewhere(), time.perf_counter(), 0
    while time.perf_counter() - start < SHORTEST:
        case()
        calls += 1
    elapsed = time.perf_counter() - start
    share = (busy_elsewhere() - busy) / (elapsed * (os.cpu_count() or 1))
    return max(0.0, share), elapsed / calls


def busy_elsewhere() -> float:
    """Processor seconds that the machine has spent on other processes; 0 where the system does not tell."""
    try:
        numbers = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = numbers
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - time.process_time()


# ---- Models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A network on both sides. forward, build: the most that a step may cost, and its graph may take to build."""

    name: str
    file: ModelFile
    network: torch.nn.Module
    forward: str = ""
    eager: str = ""
    build: str = ""


def subjects() -> Iterator[Subject]:
    """One after another: they are large."""
    yield Subject("EfficientNet-Lite0", read_model(model()), frozen(module()), "<= 3.0", ">= 1.35")
    network = resnet50()
    yield Subject("ResNet-50", read_model(exported(network)), network, "<= 2.3", ">= 1.3", "<= 2")
    network = vgg16()
    yield Subject("VGG-16", read_model(exported(network)), network, build="<= 4")


@cache
def single_precision() -> bytes:
    """EfficientNet-Lite0 as an ONNX file with the PyTorch module's own float32 weights."""
    return finish(clean(export(module())), read_labels(None))


@cache
def lite0(precision: torch.dtype = torch.float32) -> Lite0:
    return Lite0().to(precision)


def opened(file: ModelFile) -> Opened:
    return open_network(file, Wish(providers=("cpu",), threads=THREADS))


def explainer(method: Method, source: Any = None) -> Explainer:
    return Explainer(single_precision() if source is None else source, method, providers=["cpu"], threads=THREADS)


# ---- Cost and building ----------------------------------------------------------------------------------------------


def cost(given: argparse.Namespace) -> Rows:
    rows: Rows = []
    for subject in subjects():
        model_, file = opened(subject.file), subject.file
        step = Session(graph.to_bytes(step_graph(model_, Score.LOGIT, Wrt.MAPS)), ("cpu",), THREADS)
        feeds = {name: array for name, array in noise_rows(model_, 1).items() if name in step.inputs}
        plain = Session(file.proto.SerializeToString(), ("cpu",), THREADS)
        picture = {plain.inputs[0]: feeds[IMAGE]}
        eager = score_gradient(subject.network, torch.from_numpy(feeds[IMAGE]), 0)
        maps = torch.from_numpy(feeds[MAPS])
        cases: dict[str, Case] = {
            "forward": partial(plain.run, [plain.outputs[0]], picture),
            "step": partial(step.run, [SCORE, GRADIENT], feeds),
            "PyTorch": partial(eager, maps),
        }
        times = samples(cases, 2 * given.samples, given.patience)
        note = times.note()
        rows.append(row(f"{subject.name}: step / forward", times.ratio("step", "forward"), subject.forward, note))
        rows.append(row(f"{subject.name}: PyTorch / step", times.ratio("PyTorch", "step"), subject.eager, note))
        model_.network.close()
    return rows


def building(given: argparse.Namespace) -> Rows:
    rows: Rows = []
    for subject in subjects():
        model_ = opened(subject.file)
        build = partial(step_graph, model_, Score.LOGIT, Wrt.MAPS)
        times = samples({"step_graph": build}, given.samples, given.patience)
        nodes = len(build().graph)
        note = f"{times.note()}; {nodes} nodes"
        rows.append(row(f"{subject.name}: seconds to build", times.median("step_graph"), subject.build, note))
        model_.network.close()
    return rows


# ---- Whole searches -------------------------------------------------------------------------------------------------


def search(given: argparse.Namespace) -> Rows:
    method = ours.opti_cam(max_iter=STEPS, lr=RATE, tolerance=0)
    with explainer(method, model()) as explain:
        image = explain.prepare(pictures()["chelsea"]).image
        target = explain(image).target.index
        network, x = lite0(), torch.from_numpy(np.array(image))[None]
        cases: dict[str, Case] = {
            "onnxcam": lambda: explain(image),
            "PyTorch": lambda: eager_explanation(network, x, target),
        }
        times = samples(cases, given.samples, 3 * given.patience)
    note = times.note()
    rows = [row(f"{STEPS} Opti-CAM steps: PyTorch / onnxcam", times.ratio("PyTorch", "onnxcam"), ">= 1.4", note)]
    with explainer(ours.opti_cam(max_iter=25, tolerance=0), model()) as explain:
        images = [explain.prepare(p).image for p in pictures().values()]
        images += [np.ascontiguousarray(i[:, :, ::-1]) for i in images]
        cases = {
            "together": lambda: explain.batch(images),
            "one by one": lambda: [explain(i) for i in images],
        }
        times = samples(cases, given.samples, 3 * given.patience)
    note = times.note()
    return [*rows, row("four pictures: together / one by one", times.ratio("together", "one by one"), "<= 0.92", note)]


def eager_explanation(network: Lite0, image: torch.Tensor, target: int) -> torch.Tensor:
    with torch.no_grad():
        features = network.features(image)[0]
    *_, last = opti_cam(network, image, features, target, steps=STEPS, rate=RATE)
    return mask_of(torch.from_numpy(last.mask)[None, None])


# ---- Numbers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A picture as both sides take it, and its predicted class."""

    name: str
    image: Floats
    target: int

    def tensor(self, precision: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.array(self.image))[None].to(precision)


def asked(explain: Explainer, folder: Path | None, count: int) -> list[Asked]:
    """The embedded pictures first, then the folder's."""
    endings = (".jpg", ".jpeg", ".png")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings) if folder is not None else []
    chosen = [*pictures().values(), *found][:count]
    prepared = [(p.name, explain.prepare(p).image) for p in chosen]
    return [Asked(name, image, int(predicted(explain, image).argmax())) for name, image in prepared]


def predicted(explain: Explainer, image: Floats) -> npt.NDArray[np.float64]:
    network = explain._open(explain._default).opened.network
    return network.look(network.feeds(image, None, {}))[1]


def probe_of(explain: Explainer, picture: Asked) -> PictureProbe:
    """What the explainer's method would see."""
    network = explain._open(explain._default)
    answer = explain._look(network, explain.prepare(picture.image), {})
    fed, found = explain._targets([picture.target], answer)
    originals = {
        Score.LOGIT: np.asarray([found[0].logit], np.float32),
        Score.PROBABILITY: np.asarray([found[0].probability], np.float32),
    }
    return PictureProbe(network, picture.image, answer.fill, {**answer.feeds, **fed}, answer.features, originals)


def own_search(
    explain: Explainer, picture: Asked, *, epsilon: float = 1e-8, score: Score = Score.LOGIT,
    bounds: tuple[float, float] | None = None,
) -> list[Step]:  # fmt: skip
    """Every step of the library's search; its coefficients are read from the generator that runs it."""
    probe = probe_of(explain, picture)
    settings = Settings(Convention.CONSTRUCTIVE, score, STEPS, RATE, 1, bounds, 0.0, epsilon, 0)
    running, chosen = coefficients(settings)(probe), live(probe.features)  # a search may leave out the other channels
    steps, question = [], next(running)
    while True:
        found = inspect.getgeneratorlocals(running)["rows"].u[0]
        u = np.zeros(len(probe.features))
        u[chosen if len(found) < len(u) else slice(None)] = found
        told = probe.score_gradient(question.maps, question.rows, score)
        steps.append(Step(u, question.maps[0, 0].astype(np.float64), float(told[0][0])))
        try:
            question = running.send(told)
        except StopIteration:
            return steps


def torch_search(picture: Asked, precision: torch.dtype, threads: int, epsilon: float = 1e-8) -> list[Step]:
    network, image = lite0(precision), picture.tensor(precision)
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            features = network.features(image)[0]
        return list(opti_cam(network, image, features, picture.target, steps=STEPS, rate=RATE, epsilon=epsilon))
    finally:
        torch.set_num_threads(THREADS)


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def map_difference(a: Step, b: Step) -> float:
    """The largest between two maps in [0,1]."""
    one, other = (mask_of(torch.from_numpy(s.mask)[None, None]) for s in (a, b))
    return float((one - other).abs().max())


def parity(given: argparse.Namespace) -> Rows:
    """Against PyTorch's autograd in float32. A channel that is constant over space has no say in the mask, so that its
    gradient is rounding noise, which Adam turns into steps of full length: without those is what compares."""
    cosines: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    notes = []
    with explainer(ours.opti_cam()) as explain:
        for picture in asked(explain, given.pictures, 5):
            runs, chosen = all_runs(explain, picture, 1e-8), live(probe_of(explain, picture).features)
            for a, b in (MAIN, *PAIRS):
                x, y = runs[a], runs[b]
                cosines.setdefault(f"{a} / {b}, all", []).append(cosine(x[5].u, y[5].u))
                cosines.setdefault(f"{a} / {b}", []).append(cosine(x[5].u[chosen], y[5].u[chosen]))
                scores.setdefault(f"{a} / {b}", []).append(abs(x[STEPS].score / y[STEPS].score - 1))
            finals = (f"{r[STEPS].score:.4g}" for r in runs.values())
            notes.append(f"{picture.name} {'/'.join(finals)}")
            print(f"  {notes[-1]}", file=sys.stderr)
    ours_, what = " / ".join(MAIN), f"{len(notes)} pictures, the worst"
    all_ = "; ".join(f"{name} {min(c):.5f}" for name, c in cosines.items())
    others = "; ".join(f"{name} {max(s):.3f}" for name, s in scores.items())
    return [
        row("coefficients after 5 steps, all channels: cosine", min(cosines[f"{ours_}, all"]), ">= 0.9999", what),
        row("the same, channels that vary over space", min(cosines[ours_]), ">= 0.9999", f"{what}; {all_}"),
        row(
            f"score after {STEPS} steps: relative difference", max(scores[ours_]), "<= 0.02",
            f"{what}; {others}; {', '.join(runs)}: {'; '.join(notes)}",
        ),
    ]  # fmt: skip


def quality(given: argparse.Namespace) -> Rows:
    """Both masks are scored in the same way, as n(up(raw))."""
    higher: dict[Score, list[bool]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    means: dict[Score, list[tuple[float, float, float]]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    missed: dict[Score, list[str]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    with explainer(ours.opti_cam(), model()) as search_, explainer(score_cam(), model()) as scoring:
        found = asked(search_, given.pictures, MOST_PICTURES)
        for picture in found:
            probe = probe_of(search_, picture)
            raw = [e(picture.image, picture.target).raw for e in (search_, scoring)]
            for score in higher:
                opti, cam = (float(probe.score(r[None, None], score)[0, 0]) for r in raw)
                higher[score].append(opti > cam)
                means[score].append((opti, cam, float(probe.original(score)[0])))
                missed[score] += [] if opti > cam else [f"{picture.name} ({opti:.4g} against {cam:.4g})"]
    rows: Rows = []
    for score, values in higher.items():
        opti, cam, plain = np.mean(means[score], axis=0)
        note = (
            f"{sum(values)} of {len(found)} pictures; mean {opti:.4g}, Score-CAM {cam:.4g}, unmasked {plain:.4g}; "
            f"missed: {', '.join(missed[score]) or 'none'}"
        )
        rows.append(row(f"Opti-CAM's {score} above Score-CAM's", float(np.mean(values)), ">= 0.90", note))
    return rows


# ---- Epsilon --------------------------------------------------------------------------------------------------------

ABSOLUTE = (1e-8, 1e-5, 1e-3)
RELATIVE = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of the first gradient's root mean square."""


def precision(given: argparse.Namespace) -> Rows:
    """Rows for reading, without a reach: how far runs part and what they score, for each epsilon."""
    rows: Rows = []
    with explainer(ours.opti_cam()) as explain:
        found = asked(explain, given.pictures, given.precision_pictures)
        size = {p.name: first_gradient(p) for p in found}
        chosen = [live(probe_of(explain, p).features) for p in found]
        exact: dict[str, float] = {}
        for unit, epsilons in (("absolute", ABSOLUTE), ("relative", RELATIVE)):
            for epsilon in epsilons:
                runs = {
                    p.name: all_runs(explain, p, epsilon * (size[p.name] if unit == "relative" else 1)) for p in found
                }
                exact = exact or {name: r["float64"][STEPS].score for name, r in runs.items()}
                rows += spread(list(runs.values()), chosen, unit, epsilon)
                kept = [r["float64"][STEPS].score / exact[name] for name, r in runs.items()]
                note = f"worst {min(kept):.4g}; best of all steps {best(runs, exact):.4g}"
                what = f"{unit} {epsilon:g}: final score of float64 / that at 1e-8"
                rows.append({**row(what, float(np.mean(kept)), "", note), "unit": unit, "epsilon": epsilon})
                print(f"  {unit} {epsilon:g} done", file=sys.stderr)
    note = ", ".join(f"{name} {s:.3g}" for name, s in size.items())
    return [*rows, row("root mean square of the first gradient", statistics.median(size.values()), "", note)]


def first_gradient(picture: Asked) -> float:
    network, image = lite0(torch.float64), picture.tensor(torch.float64)
    with torch.no_grad():
        features = network.features(image)[0]
    gradient = coefficient_gradient(network, image, features, picture.target)
    return float(gradient.pow(2).mean().sqrt())


def all_runs(explain: Explainer, picture: Asked, epsilon: float) -> dict[str, list[Step]]:
    return {
        "onnxcam": own_search(explain, picture, epsilon=epsilon),
        "PyTorch 1 thread": torch_search(picture, torch.float32, 1, epsilon),
        "PyTorch 2 threads": torch_search(picture, torch.float32, THREADS, epsilon),
        "float64": torch_search(picture, torch.float64, 1, epsilon),
    }


def best(runs: dict[str, dict[str, list[Step]]], exact: dict[str, float]) -> float:
    return float(np.mean([max(s.score for s in r["onnxcam"]) / exact[name] for name, r in runs.items()]))


def spread(
    runs: Sequence[dict[str, list[Step]]], chosen: Sequence[npt.NDArray[np.bool_]], unit: str, epsilon: float
) -> Rows:
    """chosen: the channels that vary over space, of each picture."""
    rows: Rows = []
    for a, b in PAIRS:
        for step in LOOKED_AT:
            maps = [map_difference(r[a][step], r[b][step]) for r in runs]
            cosines = [cosine(r[a][step].u[c], r[b][step].u[c]) for r, c in zip(runs, chosen, strict=True)]
            scores = [abs(r[a][step].score / r[b][step].score - 1) for r in runs]
            note = (
                f"worst {max(maps):.2g}; cosine {np.mean(cosines):.5f}, worst {min(cosines):.5f}; "
                f"score {max(scores):.2g}"
            )
            what = f"{unit} {epsilon:g}: {a} / {b}, {step} steps: map"
            detail = {
                "unit": unit, "epsilon": epsilon, "pair": [a, b], "step": step, "map_mean": float(np.mean(maps)),
                "map_worst": max(maps), "cosine_mean": float(np.mean(cosines)), "cosine_worst": min(cosines),
                "score_worst": max(scores),
            }  # fmt: skip
            rows.append({**row(what, float(np.mean(maps)), "", note), **detail})
    return rows


# ---- muppet-xai -----------------------------------------------------------------------------------------------------


def muppet(given: argparse.Namespace) -> Rows:
    """Its own explainers on the same weights; the layer is the one that onnxcam chooses."""
    try:
        _stand_in_for_torchvision()
        if not hasattr(sys.modules.get("torchvision.transforms"), "GaussianBlur"):
            sys.modules["torchvision.transforms"].GaussianBlur = None  # type: ignore[attr-defined]
        from muppet.explainers.opti_cam import OptiCAMExplainer
        from muppet.explainers.score_cam import ScoreCAMExplainer
    except (ImportError, RuntimeError) as error:
        print(f"muppet-xai is left out: {error}", file=sys.stderr)
        return []
    rows: Rows = []
    network = lite0()
    bounded = {"score": Score.PROBABILITY, "bounds": (0.0, 1.0)}
    with explainer(ours.opti_cam(max_iter=STEPS, lr=RATE, **bounded)) as search_, explainer(score_cam()) as scoring:
        for picture in asked(search_, given.pictures, 5):
            image = picture.tensor(torch.float32)
            mine = own_search(search_, picture, **bounded)
            theirs = OptiCAMExplainer(network, max_iter=STEPS, lr=RATE)
            map_ = theirs(image)[0, 0].numpy()
            score = -float(theirs.memory.get_premises()[0].attribution)
            difference = abs(mine[-1].score / score - 1)
            found = search_(picture.image, picture.target).map
            note = (
                f"{picture.name}: {mine[-1].score:.5g} against {score:.5g}; best of all steps "
                f"{max(s.score for s in mine):.5g}; Pearson of the maps {pearson(found, map_):.4f}"
            )
            rows.append(row("muppet-xai's Opti-CAM: relative difference of the score", difference, "<= 0.02", note))
        for picture in asked(scoring, given.pictures, 2):
            with torch.no_grad():
                map_ = ScoreCAMExplainer(network)(picture.tensor(torch.float32))[0, 0].numpy()
            found = scoring(picture.image, picture.target).map
            rows.append(row("muppet-xai's Score-CAM: Pearson", pearson(found, map_), ">= 0.999", picture.name))
    return rows


def pearson(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1])


# ---- The command ----------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "cost": cost, "building": building, "search": search, "parity": parity, "quality": quality,
    "precision": precision, "muppet": muppet,
}  # fmt: skip


def machine() -> dict[str, Any]:
    versions = {"python": platform.python_version(), "torch": torch.__version__, "onnx": onnx.__version__}
    return {**versions, "onnxruntime": onnxruntime.__version__, "cores": os.cpu_count(), "threads": THREADS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5, help="quiet ones of a case; twice as many of a step")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for them; then the quietest count")
    parser.add_argument("--pictures", type=Path, help=f"folder of photographs; at most {MOST_PICTURES} are taken")
    parser.add_argument("--precision-pictures", type=int, default=5, help="pictures for that part, 5 minutes each")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="one part alone; may be repeated")
    parser.add_argument("--json", type=Path, help="keep the rows")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows: Rows = []
    for name, part in PARTS.items():
        if given.only is None or name in given.only:
            print(f"measuring: {name}", file=sys.stderr)
            rows += [{"part": name, **r} for r in part(given)]
            if given.json is not None:
                given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    table = Table("what", "measured", "reach", "note")
    for r in rows:
        table.add_row(r["what"], f"{r['value']:.4g}", r["reach"], r["note"])
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
