"""How a command opens a model: for pictures as an Explainer, or alone as `inspect` and `rewrite` do."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import MapArgs, OpeningArgs
from onnxcam.cli.parsing import (
    parse_adjustment,
    parse_bands,
    parse_engine,
    parse_image_input,
    parse_inputs,
    parse_limits,
    parse_path,
    parse_provider_words,
    parse_window,
)
from onnxcam.errors import OptionError

if TYPE_CHECKING:
    from onnxcam.cli.evaluate_options import EvaluateArgs
    from onnxcam.cli.predict import PredictArgs
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.targets.resolving import ParsedTargets
    from onnxcam.limits import Limits
    from onnxcam.methods.blocks import Method
    from onnxcam.network.opening import OpenOptions
    from onnxcam.surgeon.loading import ModelFile


def open_explainer(
    model: "ModelFile | Path",
    args: MapArgs,
    targets: "ParsedTargets",
    method: "Method",
    *,
    layer: Sequence[str] | None = None,
    cache: bool = True,
) -> "Explainer":
    """The explainer of one call. layer: in place of that of the arguments. Raises OnnxCamError."""
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.inputs.opencv import opencv

    opencv()  # what draws the maps is missed before any work
    step = args.method.step
    return Explainer(
        model,
        method,
        step=parse_path(step) if step is not None else None,
        kind=targets.kind,
        cache=cache,
        isolated=args.engine.isolated,
        **{**opening_arguments(args, args.targets.labels), **({"layer": layer} if layer else {})},
    )


def opening_arguments(args: "MapArgs | EvaluateArgs | PredictArgs", labels: str | None) -> dict[str, Any]:
    """The keyword arguments of Explainer() that say how a model is opened and run. Raises OnnxCamError."""
    from onnxcam.inputs.presets import parse_size

    opening, engine = args.opening, args.engine
    return {
        "providers": parse_provider_words(engine),
        "preset": args.preprocessing.preset,
        "adjust": parse_adjustment(args.preprocessing),
        "window": parse_window(args.preprocessing.window),
        "bands": parse_bands(args.preprocessing.bands),
        "layer": opening.layer or "auto",
        "layout": opening.layout,
        "image_input": parse_image_input(opening.image_input),
        "size": parse_size(opening.size) if opening.size is not None else None,
        "output": opening.output,
        "inputs": parse_inputs(opening.inputs or ()),
        "labels": labels,
        "batch": engine.batch,
        "threads": engine.threads,
        "engine": parse_engine(engine),
        "limits": parse_limits(args.limits),
    }


def open_options(file: "ModelFile", args: OpeningArgs, limits: "Limits | None" = None) -> "OpenOptions":
    """How a model is opened without a picture: on the CPU, extra inputs that are not given filled with zeros."""
    from onnxcam.inputs.choices import choose_inputs, choose_kind, choose_preset, choose_size
    from onnxcam.inputs.presets import parse_size
    from onnxcam.limits import SAFE
    from onnxcam.network.extra_inputs import blank_inputs
    from onnxcam.network.opening import OpenOptions
    from onnxcam.types import Source

    name = parse_image_input(args.image_input)
    image = file.image(args.layout, name)
    size = parse_size(args.size) if args.size is not None else None
    sides, origin = choose_size(image, size, choose_preset(file, None, image)[0])
    given = {name: value for name, value in parse_inputs(args.inputs or ()).items() if not isinstance(value, Path)}
    inputs = {**blank_inputs(file.model, image), **choose_inputs(given)}
    return OpenOptions(
        layout=args.layout, image_input=name, size=sides, size_is_assumed=origin.source is not Source.GIVEN,
        layer=_one_layer(args), output=args.output, kind=choose_kind(file, args.output), inputs=inputs,
        providers=("cpu",), limits=limits if limits is not None else SAFE,
    )  # fmt: skip


def _one_layer(args: OpeningArgs) -> str:
    """The layer of a command that makes no maps. Raises OptionError for several."""
    layers = args.layer or ["auto"]
    if len(layers) > 1:
        raise OptionError("several layers are fused by `onnxcam explain`; give one --layer")
    return layers[0]
