"""Builds the step graphs of an opened model, and says why one cannot be built.

gradients.py calls it when it has no stored graph: it needs onnx, which a stored graph does not.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.session import Session
from onnxcam.errors import ModelError, UndefinedSaliency
from onnxcam.network.dry_run import noise
from onnxcam.network.opening import OpenedModel
from onnxcam.network.packing import select_targets
from onnxcam.network.scorer import SCORE_OUTPUTS
from onnxcam.surgeon.analysis.tracing import build_tracer
from onnxcam.surgeon.autodiff.driver import MissingRule
from onnxcam.surgeon.autodiff.rules.guided import GuidedRules
from onnxcam.surgeon.autodiff.rules.max_pool_windows import max_pool_by_windows
from onnxcam.surgeon.autodiff.rules.registry import Rule
from onnxcam.surgeon.graphs import masked_score, score_gradient, tensor_names
from onnxcam.surgeon.graphs.score_gradient import Traces
from onnxcam.surgeon.graphs.tensor_names import Wrt, wrt_tensor
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.passes.opset import blank_weights
from onnxcam.surgeon.passes.single_precision import convert_to_single_precision
from onnxcam.surgeon.session_bytes import session_bytes
from onnxcam.types import Arrays, Score

OTHER_FORMS: Mapping[str, Mapping[str, Rule]] = {"webgpu": {"MaxPool": max_pool_by_windows}}
"""Rules by operator for providers that lack what the usual ones need, by the provider's short name."""


def step_graph(
    opened: OpenedModel, score: Score, wrt: Wrt, *, guided: bool = False, keep: Collection[str] = ()
) -> Model:
    """Builds the graph that gives each sample's score and its gradient. guided: as guided backpropagation changes it.

    keep: outputs of the scoring graph, or of the model, that stay outputs. Raises MissingGradient, TimedOut, and
    UndefinedSaliency for guided backpropagation without a ReLU.
    """
    output, tensor = SCORE_OUTPUTS[score], wrt_tensor(wrt, opened.anatomy)
    limits = opened.options.limits.begin("building the gradient of the model")
    model = score_gradient.make_differentiable(scoring_graph(opened, keep), output, tensor)
    forms = OTHER_FORMS.get(opened.network.provider, {})
    if not guided:
        return score_gradient.step_model(model, output, tensor, _traces(opened, model), forms, limits, keep)
    rules = GuidedRules()
    overrides = {**forms, **rules.overrides}
    graph = score_gradient.step_model(model, output, tensor, _traces(opened, model), overrides, limits, keep)
    if not rules.relu_count:
        raise UndefinedSaliency(
            "guided backpropagation changes what passes a ReLU, and this model has none on the way; use gradient or "
            "smooth-grad"
        )
    return graph


def why_no_gradient(opened: OpenedModel) -> tuple[list[MissingRule], str | None]:
    """(operators without a gradient rule, the reason against gradients); ([], None) where gradients work."""
    missing = without_rules(opened)
    if missing:
        return missing, "operators without a gradient rule"
    try:
        step_graph(opened, Score.LOGIT, Wrt.MAPS)
    except ModelError as error:
        return [], str(error)
    return [], None


def without_rules(opened: OpenedModel) -> list[MissingRule]:
    """Operators between the masks and the score that no gradient rule covers."""
    return score_gradient.decompose(scoring_graph(opened), tensor_names.LOGIT, tensor_names.MAPS)[1]


def scoring_graph(opened: OpenedModel, keep: Collection[str] = ()) -> Model:
    """The scoring graph with all tensors in float32. keep: outputs of the model that stay outputs."""
    network, image = opened.network, opened.anatomy.image
    return masked_score.scoring_model(
        convert_to_single_precision(opened.model, image.name),
        replace(opened.anatomy, image=replace(image, dtype="float32")),
        opened.size,
        with_fill=network.with_fill,
        batch=network.fixed,
        extra=network.extra,
        form=network.form,
        keep=keep,
    )


def _traces(opened: OpenedModel, model: Model) -> Traces:
    """Traces of two batch sizes of a scoring graph."""
    return traces_of(model, opened, lambda count: noise_feeds(opened, count))


def traces_of(model: Model, opened: OpenedModel, feeds_of: Callable[[int], Arrays]) -> Traces:
    """Traces of two batch sizes of a graph that was made of the opened model.

    They run it without heavy weights, and show which sides of which shapes depend on the batch. feeds_of: gives the
    inputs of so many samples.
    """
    blank = blank_weights(model)
    traced = build_tracer(blank)
    session = Session(session_bytes(blank, traced.addition), ("cpu",), optimise=False, limits=opened.options.limits)
    fixed = opened.network.fixed
    traces = []
    try:
        for count in (2, 3) if fixed is None else (fixed,):
            feeds = {n: a for n, a in feeds_of(count).items() if n in session.inputs}
            results = session.run(traced.outputs, feeds, pictures=count)
            traces.append(traced.read(dict(zip(traced.outputs, results, strict=True))))
    finally:
        session.close()
    return Traces(traces[0], traces[-1])


def noise_feeds(opened: OpenedModel, count: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a step graph for `count` samples of one image of noise."""
    image = replace(opened.anatomy.image, dtype="float32")
    images = np.repeat(noise(image, image.shape(opened.size)), count, axis=0)
    return {
        **opened.inputs,
        tensor_names.IMAGE: images,
        tensor_names.FILL: images,
        tensor_names.MAPS: np.random.default_rng(0).random((count, 1, *opened.network.grid), np.float32),
        **select_targets(opened.network.blank_targets(), np.zeros(count, np.int64)),
    }
