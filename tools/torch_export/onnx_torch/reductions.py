"""Operators along axes: softmax, sums, maxima, sorting, cumulative sums."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from onnx_torch.registry import Node, Value, operator
from onnx_torch.values import integers


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Before opset 13 the softmax is over all axes from `axis` on."""
    functions: Mapping[str, Callable[[Tensor, int], Tensor]] = {
        "Softmax": torch.softmax,
        "LogSoftmax": torch.log_softmax,
        "Hardmax": _hardmax,
    }
    function = functions[node.op_type]
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % x.ndim
    if axis == x.ndim - 1:
        return function(x, axis)
    return function(x.flatten(axis), axis).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


REDUCTIONS: Mapping[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceSum": torch.sum,
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}


@operator(*REDUCTIONS, "ReduceProd", host=(1,))
def reduce(node: Node, x: Tensor, axes: Value | None = None) -> Tensor:
    chosen, keep = integers(node, axes, "axes"), bool(node.get("keepdims", 1))
    if not chosen:
        if node.get("noop_with_empty_axes", 0):
            return x
        chosen = list(range(x.ndim))
    if node.op_type != "ReduceProd":
        return REDUCTIONS[node.op_type](x, chosen, keep)
    for axis in sorted((a % x.ndim for a in chosen), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


@operator("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: Tensor) -> Tensor:
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    find = torch.argmax if node.op_type == "ArgMax" else torch.argmin
    if node.get("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


@operator("TopK", host=(1,))
def top_k(node: Node, x: Tensor, k: Value | None = None) -> tuple[Tensor, ...]:
    (count,) = integers(node, k, "k") or [1]
    axis = node.get("axis", -1)
    # Unlike torch.topk, a stable sort gives the first of equals, as the specification requires.
    ranked = torch.sort(x, dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return ranked.values.narrow(axis, 0, count), ranked.indices.narrow(axis, 0, count)


@operator("CumSum", host=(1,))
def cum_sum(node: Node, x: Tensor, axis: Value) -> Tensor:
    (along,) = integers(node, axis) or [0]
    turned = x.flip(along) if node.get("reverse", 0) else x
    total = turned.cumsum(along)
    if node.get("exclusive", 0):
        total = total - turned
    return total.flip(along) if node.get("reverse", 0) else total
