"""pinned(): the target of an explanation, so that another model with the same outputs explains the same numbers.

A target such as None or 'rank2' is resolved against what a model gives. Pinned, it names the class by its index, and a
region where a class is predicted becomes a mask.
"""

from dataclasses import replace

import numpy as np

from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.fusion import FusedPipeline
from onnxcam.explainer.targets.kind import REGIONS, TargetLike
from onnxcam.explainer.targets.region import Region, mask_of
from onnxcam.explainer.targets.similarity import Similarity
from onnxcam.inputs.loader import ImageLike
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.analysis.anatomy import Kind


def pinned(explainer: Explainer, image: ImageLike, target: TargetLike, saliency: Saliency) -> TargetLike:
    """The target that was explained. target, saliency: what was given, and its explanation by this Explainer.

    A reference of a similarity stays what it was given as. Of a signal and a volume, the region stays where the class
    is predicted.
    """
    scored = saliency.target
    if isinstance(target, Similarity):
        return target
    label = None if scored.quantity else scored.index
    if isinstance(target, Region) and target.where is not None:
        return replace(target, label=label, output=scored.output)
    if scored.kind != Kind.REGION or scored.where is not None or len(explainer.size) != 2:
        return scored
    pipeline = explainer._pipeline
    first = pipeline.pipelines[0] if isinstance(pipeline, FusedPipeline) else pipeline
    model_input, values = explainer._read(image, None, None)
    forward = first.forward(model_input, [scored], values)
    try:
        (result,) = forward.results.values()
        places = np.asarray(first.resolve(result, [scored], None).probe.feeds[REGIONS], np.float64)[:, 0] > 0
        logits = result.runner.opened.anatomy.logits
    finally:
        forward.release()
    return Region(label, mask_of(places, logits, explainer.size, model_input.placement), scored.output)
