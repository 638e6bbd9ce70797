"""Compares the network with the file that it was made of: both must give the same scores for an image of noise.

batch_support.py runs the file with output_of_file(), and calls check_surgery() before a rewritten graph is used.
"""

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.engine.batching import trim_heap
from onnxcam.engine.session import Session
from onnxcam.errors import ModelError
from onnxcam.limits import SAFE, Limits
from onnxcam.network.dry_run import noise
from onnxcam.network.extra_inputs import for_batch
from onnxcam.network.scorer import Network, probabilities
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind, Logits
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Arrays

SURGERY_TOLERANCE = 1e-2
"""Share of the largest number: the runtime's own optimisations change that much in a quantised model."""


def output_of_file(
    file: ModelFile,
    runnable: Model | None,
    model: Model,
    anatomy: Anatomy,
    size: tuple[int, ...],
    inputs: Arrays,
    *,
    traced: Arrays,
    threads: int | None,
    limits: Limits = SAFE,
) -> npt.NDArray[np.generic] | None:
    """The scored tensor by the file's own graph, on an image of noise; None if it is inside a function of the file.

    To be called before the network is opened, so that the weights are not in memory for both at one time. runnable: the
    file's graph where it is not the file itself (PreparedModel). model: the graph of the network, without masking.
    inputs: values of its extra inputs. traced: outputs that a run of the file on this image has shown (Trace). Raises
    what Session raises.
    """
    logits, image = anatomy.logits, anatomy.image
    name = logits.verified_by or logits.output
    if name in traced:
        return traced[name]
    exported = file.proto if runnable is None else ir.to_proto(runnable)
    name = file.maps[name].source if name in file.maps else name
    if not _computes(exported, name):
        return None
    batch = image.shape(size, image.batch or 1)[0]
    images = np.repeat(noise(image, image.shape(size)), batch, axis=0).squeeze(image.added)
    return _run(exported, name, {image.name: images, **for_batch(model, image, inputs, batch)}, threads, limits)


def check_surgery(
    network: Network, file: ModelFile, output: npt.NDArray[np.generic] | None, inputs: Arrays, *, half: bool
) -> str:
    """Compares the network with the file. output: what output_of_file() gave.

    Returns 'verified', or why it could not be verified. Raises ModelError where they differ.
    """
    logits, image = network.anatomy.logits, network.anatomy.image
    if output is None:
        return "NOT verified: what is scored is inside a function of the file"
    if not np.isfinite(np.asarray(output, np.float64)).all():
        return "NOT verified: the model answers NaN or infinity to a test picture"
    images = noise(image, image.shape(network.size)).astype(np.float32)
    channels_first = network.batch_from_model_layout(images)[0]
    values = network.forward(network.feeds(channels_first, channels_first, inputs))[1]
    expected, actual = _aligned(output, values, logits)
    limit = SURGERY_TOLERANCE * max(float(np.abs(expected).max(initial=0)), 1e-6)
    if expected.shape != actual.shape or not np.allclose(actual, expected, 0, limit):
        raise ModelError(
            f"the graph that was made of {file.name} gives other numbers than the file itself, so nothing is "
            f"explained; {_way_out(network.provider, half=half)}"
        )
    return "verified"


def _way_out(provider: str, *, half: bool) -> str:
    if half:
        return "leave out --half"
    if provider != "cpu":
        return f"the provider {provider} rounds too much, with these options; change them, or use --providers cpu"
    return "please report this model"


def _aligned(
    output: npt.NDArray[np.generic], values: npt.NDArray[np.float64], logits: Logits
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(the file's numbers, the network's after the model's activation), each (numbers,), in the same order.

    output: of the file, in its own axes. values: (numbers,) of the network, before the activation.
    """
    if logits.two_sided:
        values = values.reshape(-1, 2)[:, 1:]
    expected = np.asarray(output, np.float64).reshape(-1)[: values.size]
    if logits.kind is Kind.SEQUENCE:
        steps = np.moveaxis(output, [logits.batch_axis, logits.step_axis, logits.channel_axis], [0, 1, 2])[0]
        expected, values = np.asarray(steps, np.float64).reshape(-1), values.reshape(-1, logits.classes)
    if logits.kind is Kind.REGION:
        first = output[0] if output.ndim == len(logits.shape) else output  # one without batch axis
        expected = np.moveaxis(np.asarray(first, np.float64), logits.channel_axis - 1, -1).reshape(-1)
        values = values.reshape(-1, logits.columns)
    return expected, _activated(values, logits).reshape(-1)


def _activated(values: npt.NDArray[np.float64], logits: Logits) -> npt.NDArray[np.float64]:
    if logits.activation == "none":
        return values
    activated = probabilities(values, logits)
    return np.log(np.maximum(activated, 1e-300)) if logits.activation == "log_softmax" else activated


def _computes(proto: onnx.ModelProto, name: str) -> bool:
    return any(name in node.output for node in proto.graph.node) or any(v.name == name for v in proto.graph.output)


def _run(
    proto: onnx.ModelProto, name: str, feeds: Arrays, threads: int | None, limits: Limits
) -> npt.NDArray[np.generic]:
    """The tensor of this name, by a run on the CPU."""
    session = Session(_with_output(proto, name), ("cpu",), threads, limits=limits)
    try:
        return session.run([name], {n: a for n, a in feeds.items() if n in session.inputs})[0]
    finally:
        session.close()
        trim_heap()


def _with_output(proto: onnx.ModelProto, name: str) -> bytes:
    """The file with a tensor of its graph as a further output. Bytes of two messages in a row are their merger."""
    data = bytes(proto.SerializeToString())
    if any(v.name == name for v in proto.graph.output):
        return data
    further = onnx.ModelProto(graph=onnx.GraphProto(output=[onnx.ValueInfoProto(name=name)]))
    return data + bytes(further.SerializeToString())
