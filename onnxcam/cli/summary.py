"""What `onnxcam explain` prints of an explanation for a person to read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxcam.outputs.saliency import Saliency


def summary(saliency: "Saliency", outputs: Sequence[str]) -> str:
    """What a person wants to know of one explanation: what, where, how, and where each choice came from."""
    made = saliency.provenance
    settings = ", ".join(f"{name} {value}" for name, value in made.options.items() if value != "none") or "no options"
    lines = [f"{made.image} -> {', '.join(outputs)}", _target_line(saliency)]
    if _has(made.method, "layer"):
        lines.append(f"  layer         {made.layer} ({maps_text(made.features)}): {made.layer_reason}")
    removed = f"; removed pixels: {made.fill}" if _has(made.method, "fill") else ""
    lines += [
        f"  method        {made.method}: {settings}{removed}",
        f"  provider      {made.provider}",
        f"  preprocessing {_preprocessing(saliency)}",
    ]
    if made.channels is not None:
        estimated = f", {made.channels.estimated} estimated" if made.channels.estimated else ""
        lines.append(
            f"  channels      {made.channels.scored} scored{estimated}, {made.channels.skipped} skipped (constant over "
            f"space)"
        )
    if made.error is not None:
        lines.append(f"  error         {made.error:.2g} at most in 9 of 10 cases (root mean square, the map is 0 to 1)")
    passes = made.forwards + made.steps
    steps = f", {made.steps} with a gradient" if made.steps else ""
    lines.append(
        f"  time          {made.seconds:.2f} s, {passes} forward pass{'es' if passes != 1 else ''}{steps}, "
        f"batch {made.batch}"
    )
    return "\n".join([*lines, *(f"  note          {note}" for note in made.notes)])


def maps_text(features: Sequence[int]) -> str:
    return f"{features[0]} maps of {'x'.join(map(str, features[1:]))}"


def _has(name: str, what: str) -> bool:
    """Whether a method reads a layer, or fills what it removes; one from elsewhere is taken to."""
    from onnxcam.methods import METHODS, defaults
    from onnxcam.methods.blocks import Need

    if name not in METHODS:
        return True
    return Need.FEATURES in METHODS[name]().needs if what == "layer" else "fill" in defaults(name)


def _preprocessing(saliency: "Saliency") -> str:
    made = saliency.provenance
    if saliency.placement is None:
        return "none: the array is taken as it is"
    return f"{made.preset.name} ({made.preset_origin})"


def _target_line(saliency: "Saliency") -> str:
    target, made = saliency.target, saliency.provenance
    label = f" {target.label}" if target.label is not None else ""
    activation = "softmax of the logits" if made.activation == "none" else f"the model's {made.activation}"
    # Four decimals, unless they would say that it is none at all.
    shown = f"{target.probability:.4f}" if target.probability >= 1e-4 else f"{target.probability:.1e}"
    if target.kind == "classes":
        return f"  class         {target.index}{label}, probability {shown} ({activation})"
    if target.kind == "region":
        return f"  class         {target.index}{label} over a region, mean probability {target.probability:.4f}"
    return f"  target        {target.name}, {target.logit:.6g}"
