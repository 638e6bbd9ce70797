"""Recurrent networks and attention."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onnx_torch.registry import Node, operator


@operator("LSTM")
def lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    """x (T,N,I); w (directions,4H,I), its gates in the order input, output, forget, cell."""
    bias, lengths, h, c, peephole = (*rest, *[None] * 5)[:5]
    usual = ["Sigmoid", "Tanh", "Tanh"] * w.shape[0]
    odd = lengths is not None or peephole is not None or node.get("clip") or node.get("input_forget", 0)
    if odd or node.get("activations", usual) != usual or node.get("layout", 0):
        raise node.unknown("lengths, peepholes, clip, input_forget, layout or other activations")
    sequences, last_h, last_c = [], [], []
    for d in range(w.shape[0]):
        start = [x.new_zeros(x.shape[1], r.shape[2]) if s is None else s[d] for s in (h, c)]
        offset = x.new_zeros(w.shape[1]) if bias is None else bias[d].reshape(2, -1).sum(0)
        order = -1 if d == 1 or node.get("direction") == "reverse" else 1
        outputs, state = _lstm_steps(x.unbind(0)[::order], w[d], r[d], offset, start[0], start[1])
        sequences.append(torch.stack(outputs[::order]))
        last_h.append(state[0])
        last_c.append(state[1])
    return torch.stack(sequences, 1), torch.stack(last_h), torch.stack(last_c)


def _lstm_steps(
    steps: Sequence[Tensor], w: Tensor, r: Tensor, offset: Tensor, h: Tensor, c: Tensor
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """(the hidden state after each step, the last hidden and cell state)."""
    outputs = []
    for step in steps:
        enter, leave, forget, cell = (step @ w.T + h @ r.T + offset).chunk(4, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(cell)
        h = torch.sigmoid(leave) * torch.tanh(c)
        outputs.append(h)
    return outputs, (h, c)


@operator("Attention")
def attention(node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *past: Tensor | None) -> Tensor:
    """Attention of opset 23 on (N,heads,T,D), or on (N,T,heads*D) with the numbers of heads as attributes."""
    odd = set(node.attributes) - {"q_num_heads", "kv_num_heads", "scale", "is_causal", "softmax_precision"}
    if any(p is not None for p in past) or odd or len([o for o in node.outputs if o]) > 1:
        raise node.unknown("a past, several outputs or unusual attributes")
    flat = q.ndim == 3
    if flat:
        heads = [node.get("q_num_heads"), node.get("kv_num_heads"), node.get("kv_num_heads")]
        q, k, v = (t.reshape(*t.shape[:2], n, -1).transpose(1, 2) for t, n in zip((q, k, v), heads, strict=True))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) if t.shape[1] != q.shape[1] else t for t in (k, v))
    products = q @ k.transpose(-1, -2) * node.get("scale", 1 / math.sqrt(q.shape[-1]))
    if node.get("is_causal", 0):
        causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        products = products.masked_fill(~causal, -math.inf)
    if mask is not None:
        products = products.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else products + mask
    y = torch.softmax(products, -1) @ v
    return y.transpose(1, 2).flatten(2) if flat else y
