"""The layers that an Explainer reads: usually one; of several the maps are fused (fusion.py)."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from onnxcam.errors import OptionError
from onnxcam.explainer.heads import Heads
from onnxcam.methods.blocks import Method, Need


def check_layers(layer: str | Sequence[str], method: Method, *, has_step: bool) -> tuple[str, ...]:
    """The layers as a tuple. Raises OptionError for several layers where they make no sense."""
    layers = (layer,) if isinstance(layer, str) else tuple(layer)
    if len(layers) == 1:
        return layers
    if not method.needs & {Need.FEATURES, Need.TAIL}:
        raise OptionError(f"{method.name} reads no layer, so there are no maps of several to fuse; leave out layer")
    if has_step:
        raise OptionError("a step graph is made for one layer; leave it out to fuse the maps of several")
    if len(set(layers)) != len(layers):
        raise OptionError(f"a layer is given twice: {', '.join(layers)}")
    return layers


def open_heads(layers: Sequence[str], open_layer: Callable[[str], Heads]) -> tuple[Heads, ...]:
    """The heads of each layer. Raises OnnxCamError, with none left open; OptionError if two layers are one tensor."""
    with ExitStack() as opened:
        heads: list[Heads] = []
        for layer in layers:
            heads.append(open_layer(layer))
            opened.callback(heads[-1].close)
        tensors = [each.first.anatomy.features.tensor for each in heads]
        for i, tensor in enumerate(tensors):
            if tensor in tensors[:i]:
                raise OptionError(f"the layers {layers[tensors.index(tensor)]!r} and {layers[i]!r} are both {tensor!r}")
        opened.pop_all()
    return tuple(heads)
