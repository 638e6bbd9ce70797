"""Values for a model's inputs other than the image: metadata, thresholds, switches.

`extra_inputs` checks what the caller gives and casts it to each input's type and shape. `is_batched` tells whether an
extra input has one entry for each image of a batch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ModelError, OptionError, near
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Arrays

if TYPE_CHECKING:
    from onnxcam.surgeon.ir import Model, Value


def extra_inputs(model: "Model", image: ImageInput, values: Arrays) -> dict[str, npt.NDArray[np.generic]]:
    """Returns a value for each input other than the image, in its type and shape.

    A single number is the value of an input of one number only. Raises OptionError for unknown names and for values
    that do not fit, and ModelError for a missing value.
    """
    others = {str(v.name): v for v in model.graph.inputs if v.name != image.name}
    for name in values:
        if name not in others:
            known = near(name, others) if others else "it has no extra inputs"
            raise OptionError(f"the model has no extra input {name!r}; {known}")
    missing = [name for name in others if name not in values]
    if missing:
        from onnxcam.surgeon.ir import shape_with_names

        shown = ", ".join(f"{n} {shape_with_names(others[n]) or ''}".strip() for n in missing)
        raise ModelError(
            f"the model needs extra inputs besides the picture: {shown}; give each with --input NAME=VALUE: "
            f"a number, an .npy file or a picture"
        )
    image_value = next(v for v in model.graph.inputs if v.name == image.name)
    return {
        name: _fitted(name, values[name], value, is_batched(value, image_value, image.batch))
        for name, value in others.items()
    }


def blank_inputs(model: "Model", image: ImageInput) -> dict[str, npt.NDArray[np.generic]]:
    """Zeros for every input other than the image, to open a model before its values are known."""
    others = [v for v in model.graph.inputs if v.name != image.name and v.shape is not None]
    image_value = next(v for v in model.graph.inputs if v.name == image.name)
    batched = {str(v.name): is_batched(v, image_value, image.batch) for v in others}
    return {str(v.name): np.zeros([d or 1 for d in _declared(v, batched[str(v.name)])]) for v in others}


def _declared(value: "Value", batched: bool) -> list[int | None]:
    """The shape of one image's value, with None for a dimension of any size."""
    declared = [d if isinstance(d, int) and d > 0 else None for d in value.shape or ()]
    return [1, *declared[1:]] if batched else declared


def _fitted(name: str, array: npt.NDArray[np.generic], value: "Value", batched: bool) -> npt.NDArray[np.generic]:
    if value.dtype is None or value.shape is None:
        raise ModelError(f"the input {name!r} has no number type or shape, so no value can be fed")
    declared = _declared(value, batched)
    if array.ndim == 0:
        _check_one_number(name, declared)
        array = np.full([1] * len(declared), array)
    elif array.ndim == len(declared) - 1:
        array = array[None]
    if array.ndim != len(declared) or any(d not in (None, s) for d, s in zip(declared, array.shape, strict=True)):
        shape = ["?" if d is None else d for d in declared]
        raise OptionError(f"the input {name!r} has the shape {shape}, which {list(array.shape)} does not fit")
    try:
        with np.errstate(invalid="ignore"):
            cast = array.astype(value.dtype.numpy())
    except (TypeError, ValueError):
        raise OptionError(f"the input {name!r} takes {value.dtype.name}, not {array.dtype}") from None
    if cast.dtype.kind in "iub" and not np.array_equal(cast, array):
        raise OptionError(f"the input {name!r} takes {value.dtype.name}, which cannot hold these values")
    return cast


def _check_one_number(name: str, declared: Sequence[int | None]) -> None:
    """Raises OptionError where the input takes several numbers, as one that fills them all is rarely meant."""
    sides = [d for d in declared if d not in (None, 1)]
    if not sides:
        return
    shape = ["?" if d is None else d for d in declared]
    way_out = "an array (.npy file)"
    if len(sides) == 1 and declared[-1] == sides[0]:
        example = ",".join(["0"] * sides[0]) if sides[0] <= 4 else "0,0,0,..."
        way_out = f"{sides[0]} numbers, as in --input {name}={example}, or {way_out}"
    raise OptionError(f"the input {name!r} has the shape {shape}, which a single number does not fit; give {way_out}")


def is_batched(value: "Value", image: "Value", batch: int | None) -> bool:
    """Whether the first axis of an extra input is the batch of the image input.

    It is if both are dynamic and have no different names, or if it is as long as the image's fixed batch. Names that an
    exporter only numbered (unk__7) do not count.
    """
    if value.shape is None or len(value.shape) == 0:
        return False
    first, of_image = value.shape[0], image.shape[0] if image.shape is not None and len(image.shape) else None
    if isinstance(first, int) and first >= 1:
        return batch is not None and first == batch
    names = [getattr(d, "value", None) for d in (first, of_image)]
    return None in names or names[0] == names[1] or any(str(n).startswith("unk") for n in names)


def for_batch(model: "Model", image: ImageInput, inputs: Arrays, batch: int) -> Arrays:
    """One image's values, repeated along the batch for an export that is fixed to a larger batch."""
    values = {str(v.name): v for v in model.graph.inputs}
    image_value = values[image.name]
    return {
        name: np.repeat(array, batch, axis=0) if is_batched(values[name], image_value, image.batch) else array
        for name, array in inputs.items()
    }
