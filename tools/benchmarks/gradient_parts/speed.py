"""The parts cost (of one step), warm (a Grad-CAM), building (of the gradient graph) and search (an Opti-CAM)."""

import argparse
from functools import partial

import numpy as np
import torch
from table import Rows, row
from torch_models import Lite0, mask_of, opti_cam, score_gradient

import onnxcam
from gradient_parts.searches import RATE, STEPS
from gradient_parts.subjects import THREADS, explainer, lite0, opened, subjects
from gradient_parts.timing import Case, samples
from onnxcam.engine.session import Session
from onnxcam.explainer.explainer import opened_model
from onnxcam.inputs.bundled import model, pictures
from onnxcam.network.gradient_graphs import noise_feeds, step_graph
from onnxcam.network.gradients import ANSWER
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs.masked_score import IMAGE, MAPS
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE, Wrt, with_prediction
from onnxcam.types import Score


def cost(arguments: argparse.Namespace) -> Rows:
    """A step over a forward pass, and a step in PyTorch over a step."""
    rows: Rows = []
    for subject in subjects():
        model_, file = opened(subject.file), subject.file
        step = Session(ir.to_bytes(step_graph(model_, Score.LOGIT, Wrt.MAPS)), ("cpu",), THREADS)
        feeds = {name: array for name, array in noise_feeds(model_, 1).items() if name in step.inputs}
        plain = Session(file.proto.SerializeToString(), ("cpu",), THREADS)
        image = {plain.inputs[0]: feeds[IMAGE]}
        eager = score_gradient(subject.network, torch.from_numpy(feeds[IMAGE]), 0)
        maps = torch.from_numpy(feeds[MAPS])
        cases: dict[str, Case] = {
            "forward": partial(plain.run, [plain.outputs[0]], image),
            "step": partial(step.run, [SCORE, GRADIENT], feeds),
            "PyTorch": partial(eager, maps),
        }
        times = samples(cases, 2 * arguments.samples, arguments.patience)
        note = times.note()
        rows.append(row(f"{subject.name}: step / forward", [times.ratio("step", "forward")], subject.forward, note))
        rows.append(row(f"{subject.name}: PyTorch / step", [times.ratio("PyTorch", "step")], subject.eager, note))
        model_.network.close()
    return rows


def warm(arguments: argparse.Namespace) -> Rows:
    """A Grad-CAM of an Explainer that is warm, over one run of its graph; of a tensor and of an array of pixels."""
    with explainer(onnxcam.grad_cam(), model()) as explain:
        model_ = opened_model(explain)
        graph = with_prediction(step_graph(model_, Score.LOGIT, Wrt.FEATURES, keep=ANSWER))
        session = Session(ir.to_bytes(graph), ("cpu",), THREADS)
        feeds = {name: array for name, array in noise_feeds(model_, 1).items() if name in session.inputs}
        pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
        tensor = explain.prepare(pixels).image
        explain(tensor)
        cases: dict[str, Case] = {
            "run": partial(session.run, session.outputs, feeds),
            "of a tensor": lambda: explain(tensor),
            "of pixels": lambda: explain(pixels),
        }
        times = samples(cases, 4 * arguments.samples, arguments.patience)
        session.close()
    rows = [(f"Grad-CAM {case} / a run of its graph", times.ratio(case, "run")) for case in list(cases)[1:]]
    return [row(name, [ratio], "<= 1.1", times.note()) for name, ratio in rows]


def building(arguments: argparse.Namespace) -> Rows:
    """Seconds to build the gradient graph."""
    rows: Rows = []
    for subject in subjects():
        model_ = opened(subject.file)
        build = partial(step_graph, model_, Score.LOGIT, Wrt.MAPS)
        times = samples({"step_graph": build}, arguments.samples, arguments.patience)
        nodes = len(build().graph)
        note = f"{times.note()}; {nodes} nodes"
        rows.append(row(f"{subject.name}: seconds to build", [times.median("step_graph")], subject.build, note))
        model_.network.close()
    return rows


def search(arguments: argparse.Namespace) -> Rows:
    """A complete Opti-CAM: PyTorch over onnxcam, and four pictures in one batch over one by one."""
    method = onnxcam.opti_cam(max_iter=STEPS, lr=RATE, tolerance=0)
    with explainer(method, model()) as explain:
        image = explain.prepare(pictures()["chelsea"]).image
        target = explain(image).target.index
        network, x = lite0(), torch.from_numpy(np.array(image))[None]
        cases: dict[str, Case] = {
            "onnxcam": lambda: explain(image),
            "PyTorch": lambda: eager_explanation(network, x, target),
        }
        times = samples(cases, arguments.samples, 3 * arguments.patience)
    note = times.note()
    rows = [row(f"{STEPS} Opti-CAM steps: PyTorch / onnxcam", [times.ratio("PyTorch", "onnxcam")], ">= 1.4", note)]
    with explainer(onnxcam.opti_cam(max_iter=25, tolerance=0), model()) as explain:
        images = [explain.prepare(p).image for p in pictures().values()]
        images += [np.ascontiguousarray(i[:, :, ::-1]) for i in images]
        cases = {
            "in one batch": lambda: explain.batch(images),
            "one by one": lambda: [explain(i) for i in images],
        }
        times = samples(cases, arguments.samples, 3 * arguments.patience)
    note = times.note()
    return [
        *rows,
        row("four pictures: in one batch / one by one", [times.ratio("in one batch", "one by one")], "<= 0.92", note),
    ]


def eager_explanation(network: Lite0, image: torch.Tensor, target: int) -> torch.Tensor:
    """The map (1,1,H,W) by PyTorch eager."""
    with torch.no_grad():
        features = network.features(image)[0]
    *_, last = opti_cam(network, image, features, target, steps=STEPS, rate=RATE)
    return mask_of(torch.from_numpy(last.mask)[None, None])
