"""Operators that choose numbers by index: gathering, scattering, one-hot, triangles."""

import numpy as np
import torch
from torch import Tensor

from onnx_torch.registry import Node, Value, operator
from onnx_torch.values import as_tensor, integers


@operator("Gather", host=(1,))
def gather(node: Node, x: Tensor, indices: Value) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    if isinstance(indices, np.ndarray):
        if indices.ndim == 0:
            return x.select(axis, indices.item())
        indices = as_tensor(indices, node.dtype, x.device)
    flat = _counted_from_zero(indices.long(), x.shape[axis]).reshape(-1)
    return x.index_select(axis, flat).reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _counted_from_zero(indices: Tensor, side: int) -> Tensor:
    """The indices with negative ones counted from the end."""
    return torch.where(indices < 0, indices + side, indices)


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(x, axis, _counted_from_zero(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    if node.get("batch_dims", 0):
        raise node.unknown("batch_dims")
    return x[tuple(indices.movedim(-1, 0))]


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, how = node.get("axis", 0), node.get("reduction", "none")
    places = _counted_from_zero(indices, x.shape[axis])
    if how == "none":
        return x.scatter(axis, places, updates)
    if how == "add":
        return x.scatter_add(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, {"mul": "prod", "max": "amax", "min": "amin"}[how])


@operator("ScatterND")
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    how = node.get("reduction", "none")
    if how not in ("none", "add"):
        raise node.unknown(f"reduction {how}")
    return x.index_put(tuple(indices.movedim(-1, 0)), updates, accumulate=how == "add")


@operator("OneHot", host=(1,))
def one_hot(node: Node, indices: Tensor, depth: Value, off_and_on: Tensor) -> Tensor:
    (count,) = integers(node, depth) or [1]
    axis = node.get("axis", -1) % (indices.ndim + 1)
    hit = _counted_from_zero(indices.long(), count)[..., None] == torch.arange(count, device=indices.device)
    return torch.where(hit.movedim(-1, axis), off_and_on[1], off_and_on[0])


@operator("Trilu", host=(1,))
def trilu(node: Node, x: Tensor, diagonal: Value | None = None) -> Tensor:
    (offset,) = integers(node, diagonal) or [0]
    return torch.triu(x, offset) if node.get("upper", 1) else torch.tril(x, offset)
