"""Runs a model once on an image of noise and records the shapes of all tensors and the branch that every If takes.

opening.py calls `without_branches` once loops are unrolled: all later steps need the shapes, and a graph without Ifs.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.engine.batching import free_memory, trim_heap
from onnxcam.engine.session import Session
from onnxcam.errors import OutOfMemory
from onnxcam.limits import SAFE, Limits, amount_of
from onnxcam.network.extra_inputs import for_batch
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.tracing import Trace, build_tracer
from onnxcam.surgeon.budgets import check_computed
from onnxcam.surgeon.ir import Model, is_tensor
from onnxcam.surgeon.passes.control_flow import take_branches, unroll_loops
from onnxcam.surgeon.session_bytes import session_bytes
from onnxcam.types import Arrays, Note, NoteCode

MAX_NESTED = 8
"""Depth of nested Ifs; inner ones of deeper models stay."""


def without_branches(
    model: Model,
    image: ImageInput,
    size: tuple[int, ...],
    inputs: Arrays,
    trace: Trace | None,
    limits: Limits = SAFE,
    exported: onnx.ModelProto | None = None,
) -> tuple[Model, Trace, tuple[Note, ...]]:
    """(the model with each If replaced by the branch that an image takes, its trace, notes on the branches).

    trace: of an earlier opening, None to run the model. limits: of that run. exported: as run_trace() takes it. Raises
    what Session raises.
    """
    if trace is not None:
        for taken in trace.taken:
            model = take_branches(model, {taken: trace.taken[taken]}, limits)
        return unroll_loops(model, limits), trace, _branch_notes(trace.taken, trace.values)
    branches: dict[str, bool] = {}
    of_size: set[str] = set()
    for _ in range(MAX_NESTED):
        trace = run_trace(model, image, size, inputs, limits, exported)
        if not trace.taken:
            break
        branches.update(trace.taken)
        of_size.update(trace.taken.keys() & trace.values.keys())
        model, exported = unroll_loops(take_branches(model, trace.taken, limits), limits), None
    assert trace is not None
    return model, replace(trace, taken=branches), _branch_notes(branches, of_size)


def _branch_notes(taken: Mapping[str, bool], of_size: Collection[str]) -> tuple[Note, ...]:
    """Notes on the branches. of_size: the conditions that follow from shapes and constants alone."""
    return tuple(
        Note(
            NoteCode.BRANCH_OF_SIZE if name in of_size else NoteCode.BRANCH_TAKEN,
            f"the condition {name!r} was {'true' if branch else 'false'} for a test picture: "
            f"only that branch is explained",
        )
        for name, branch in taken.items()
    )


def run_trace(
    model: Model,
    image: ImageInput,
    size: tuple[int, ...],
    inputs: Arrays,
    limits: Limits = SAFE,
    exported: onnx.ModelProto | None = None,
) -> Trace:
    """Runs the model on noise, on the CPU, unoptimised, with the batch of the export (one if dynamic).

    exported: the file, where the model is its graph tensor for tensor. It is what runs then, and the trace has its
    outputs.
    """
    shape = image.shape(size, image.batch or 1)
    largest = check_computed(model, {image.name: shape, **{n: value.shape for n, value in inputs.items()}}, limits)
    if largest > (free := free_memory()):
        raise OutOfMemory(f"one tensor of the model takes {amount_of(largest)}, and {amount_of(free)} are free")
    limits.check()
    traced = build_tracer(model)
    limits.check()
    own = [str(v.name) for v in model.graph.outputs if is_tensor(v)] if exported is not None else []
    names = list(dict.fromkeys((*traced.outputs, *own)))
    data = _bytes_of(exported, traced.addition) if exported is not None else session_bytes(model, traced.addition)
    session = Session(data, ("cpu",), optimise=False, limits=limits)
    del data
    try:
        feeds = {image.name: noise(image, shape), **for_batch(model, image, inputs, shape[0])}
        read = {n: a for n, a in feeds.items() if n in session.inputs}
        results = dict(zip(names, session.run(names, read, pictures=shape[0]), strict=True))
    finally:
        session.close()
        trim_heap()
    trace = traced.read(results)
    switches = {str(n.inputs[0].name) for n in model.graph if n.op_type == "If" and n.inputs[0] is not None}
    taken = {**trace.taken, **{n: bool(a.any()) for n, a in inputs.items() if n in switches}}
    return replace(trace, taken=taken, outputs={name: results[name] for name in own})


def _bytes_of(exported: onnx.ModelProto, addition: bytes) -> bytes:
    """The file's bytes with another piece behind them."""
    return bytes(exported.SerializeToString()) + addition


def noise(image: ImageInput, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """An image of noise with this shape, in the type and range of the model's input."""
    values = np.random.default_rng(0).standard_normal(shape)
    if image.takes_integers:
        values = image.pixels_of(values)
    return values.astype(image.dtype)
