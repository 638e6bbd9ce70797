"""The model's own outputs for one image, in a graph that runs several samples at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.compiler.feeds import feeds_of
from onnxcam.compiler.prepared import Prepared
from onnxcam.engine.session import Session
from onnxcam.errors import CompileError
from onnxcam.network.dry_run import noise
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Value
from onnxcam.types import Arrays


@dataclass(frozen=True)
class OneSample:
    """An output for one image: its shape and type. axis: along which several samples lie; None where they do not."""

    shape: tuple[int, ...]
    dtype: onnx_ir.DataType
    axis: int | None


def outputs_of_one(prepared: Prepared, outputs: Sequence[Value], samples: int) -> list[OneSample]:
    """What each of the model's outputs is for one image, from two runs. samples: of a batch.

    Raises CompileError for an output that has no fixed shape, or whose samples lie along no single axis.
    """
    model, limits = prepared.model, prepared.opened.options.limits
    session = Session(ir.to_bytes(model), ("cpu",), optimise=False, limits=limits)
    names = [str(value.name) for value in outputs]
    try:
        one, several = (session.run(names, _noise_feeds(prepared, count), pictures=count) for count in (1, samples))
    finally:
        session.close()
    return [_one(name, a, b, samples) for name, a, b in zip(names, one, several, strict=True)]


def _noise_feeds(prepared: Prepared, count: int) -> Arrays:
    """The inputs of the model's own graph for `count` images of noise."""
    image = prepared.anatomy.image
    return feeds_of(prepared.opened, image.cast(noise(image, image.shape(prepared.size, count))))


def _one(name: str, one: object, several: object, samples: int) -> OneSample:
    if not (isinstance(one, np.ndarray) and isinstance(several, np.ndarray)) or one.dtype.kind not in "fiub":
        raise CompileError(
            f"the model's output {name!r} is no tensor of numbers, which no loop can carry; remove that output, or use "
            f"a method without a loop"
        )
    dtype = onnx_ir.DataType.from_numpy(one.dtype)
    if one.shape == several.shape:
        return OneSample(one.shape, dtype, None)
    axes = [i for i, (a, b) in enumerate(zip(one.shape, several.shape, strict=False)) if a != b]
    if len(one.shape) != len(several.shape) or len(axes) != 1 or several.shape[axes[0]] != samples * one.shape[axes[0]]:
        raise CompileError(
            f"the model's output {name!r} has the shape {list(one.shape)} for one image and {list(several.shape)} for "
            f"{samples}, so the part of one image cannot be told; remove that output, or use a method without a loop"
        )
    if one.shape[axes[0]] != 1:
        raise CompileError(
            f"the model's output {name!r} has {one.shape[axes[0]]} rows for each image, which cannot be told apart; "
            f"remove that output, or use a method without a loop"
        )
    return OneSample(one.shape, dtype, axes[0])
