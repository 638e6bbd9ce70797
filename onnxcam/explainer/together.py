"""explain_together(): one picture explained by several methods of one model, which share its forward pass.

Explainer.with_method() makes the Explainers. Their methods share sessions; here they also share the features of the
picture and, where they read it, the gradient of the score with respect to the features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy.typing as npt

from onnxcam.errors import MissingGradient, OnnxCamError, OptionError, UndefinedSaliency
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.pipeline import Explained
from onnxcam.explainer.results import ForwardPass, ForwardResult
from onnxcam.explainer.targets.kind import TargetLike, Targets
from onnxcam.explainer.targets.resolving import each_target
from onnxcam.inputs.loader import ImageLike, ModelInput
from onnxcam.types import Progress


@dataclass(frozen=True, eq=False)
class Together:
    """What explain_together() returns.

    results: of each Explainer, one Saliency per target, or why its method has no map of this picture. picture: the
    picture as the network took it. inputs: values of the model's extra inputs. passes: forward passes and steps that
    were made; the provenance of each Saliency counts those that its method takes alone.
    """

    results: tuple[Explained, ...]
    picture: ModelInput
    inputs: Mapping[str, npt.ArrayLike]
    passes: int


def explain_together(
    explainers: Sequence[Explainer],
    image: ImageLike,
    targets: Targets | TargetLike = (None,),
    *,
    name: str | None = None,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    progress: Callable[[int], Progress | None] | None = None,
) -> Together:
    """Explains one picture with each Explainer, for the same targets.

    explainers: one, and those that its with_method() made. Maps are those that each Explainer makes alone. progress:
    gives the callback of an Explainer by its index. A method that has no map here, as for want of a gradient rule, has
    the error in its place; any other OnnxCamError is raised.
    """
    first, requested = explainers[0], each_target(targets)
    if any(each._loader is not first._loader for each in explainers):
        raise OptionError("explain_together() takes an Explainer and others that its with_method() made")
    model_input, values = first._read(image, name, inputs)
    passes: list[ForwardPass] = []
    results: list[Explained] = []
    try:
        for i, each in enumerate(explainers):
            callback = progress(i) if progress is not None else None
            explained = explain_next(each, model_input, requested, values, passes, callback)
            if isinstance(explained, OnnxCamError) and not isinstance(explained, UndefinedSaliency | MissingGradient):
                raise explained
            results.append(explained)
    finally:
        for forward in passes:
            forward.release()
    return Together(tuple(results), model_input, values, _passes(passes, results))


def explain_next(
    explainer: Explainer,
    model_input: ModelInput,
    targets: Sequence[TargetLike],
    inputs: Mapping[str, npt.ArrayLike],
    passes: list[ForwardPass],
    progress: Progress | None = None,
) -> Explained:
    """Explains a picture by one more method: one Saliency per target, or what went wrong with the method.

    passes: of this picture for the methods before, whose results are used again; the new one is added, and the caller
    releases all of them. Raises OnnxCamError where the picture cannot be run at all.
    """
    forward = explainer._pipeline.forward(model_input, targets, inputs, passes, begins=True)
    passes.append(forward)
    (explained,) = explainer._explain_batch([forward], [targets], progress=[progress])
    return explained


def _passes(passes: Sequence[ForwardPass], results: Sequence[Explained]) -> int:
    """Passes that were made: those of each method alone, less those that another method had made."""
    counted, used = 0, list[ForwardResult]()  # a pass that is a step too was counted once, as a step
    for forward, explained in zip(passes, results, strict=True):
        if isinstance(explained, OnnxCamError):
            continue
        for saliency in dict(zip(forward.heads, explained, strict=True)).values():  # targets of a head share passes
            counted += saliency.provenance.forwards + saliency.provenance.steps
        used += [result for part in (forward, *forward.others) for result in part.results.values()]
    distinct = {id(result.computed): result for result in used}.values()
    again = sum(result.forwards - result.is_step for result in used) - sum(result.forwards for result in distinct)
    return counted - again - sum(result.computed.saved for result in distinct)
