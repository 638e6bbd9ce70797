"""Gradient rule of RoiAlign, which pools regions of a feature map to one size.

The pooling is separable. With mode avg, region r of sample b and channel c gives y[r,c] = Wy[r] x[b,c] Wx[r]', where
a row of Wy[r] (output rows, h) is the mean of the bilinear weights of the sampling points of one output row.
"""

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("RoiAlign", since=(16, 22))
def roi_align(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """dx[b,c] = sum over the regions r of sample b of Wy[r]' dy[r,c] Wx[r].

    As in PyTorch no gradient flows to the regions' sides: where a region lies counts as a constant.
    """
    if node.text("mode", "avg").lower() != "avg":
        raise node.refusal("takes the largest number of a region; only the mean (mode 'avg') is supported")
    channels, height, width = node.static(node.x, [1, 2, 3])
    dy, regions, samples = _reached(op, dy, node.inputs[1], node.inputs[2])
    by_rows = _weights(op, node, regions, (1, 3), height, node.integer("output_height", 1))
    by_columns = _weights(op, node, regions, (0, 2), width, node.integer("output_width", 1))
    # (r,c,i,w) -> (r,i,c,w), so that one product sums over regions and rows: (b,h,ri) (ri,cw) -> (b,h,cw)
    widened = op.Transpose(op.MatMul(dy, op.unsqueeze(by_columns, [1])), perm=[0, 2, 1, 3])
    count = op.slice(op.Shape(node.x), {0: (0, 1)})
    every = op.Range(op.integers(0), op.Squeeze(count, op.integers([0])), op.integers(1))
    of_sample = op.indicator(op.Equal(op.unsqueeze(every, [1]), op.unsqueeze(samples, [0])))
    masked = op.Mul(op.unsqueeze(of_sample, [2, 3]), op.unsqueeze(by_rows, [0]))  # (b,r,i,h)
    product = op.MatMul(
        op.Transpose(op.reshape(masked, [0, -1, height]), perm=[0, 2, 1]),
        op.reshape(widened, [-1, channels * width]),
    )
    return op.Transpose(op.reshape(product, [0, height, channels, width]), perm=[0, 2, 1, 3])


def _reached(op: Ops, dy: Value, regions: Value, samples: Value) -> tuple[Value, Value, Value]:
    """The regions that the score depends on, often one of a thousand, and one without a cotangent behind them.

    So no product is empty, even where there is no region. Returns their cotangents, sides and samples.
    """
    size = op.Reshape(op.ReduceMax(op.Abs(dy), op.integers([1, 2, 3]), keepdims=0), op.integers([-1]))
    counts = op.Not(op.Equal(size, op.number(0)))  # nan counts
    kept = [op.Compress(x, counts, axis=0) for x in (dy, regions, samples)]
    return op.pad(kept[0], 4, {0: (0, 1)}), op.pad(kept[1], 2, {0: (0, 1)}), op.pad(kept[2], 1, {0: (0, 1)})


def _weights(op: Ops, node: BackwardNode, regions: Value, sides: tuple[int, int], size: int, outputs: int) -> Value:
    """(regions, outputs, size): weight of each cell of one axis in each output.

    sides: columns of `regions` with both ends. The order of the operations is that of onnxruntime, so that both round
    alike where a number of samples depends on it.
    """
    half_pixel = node.text("coordinate_transformation_mode", "half_pixel").lower() == "half_pixel"
    scale, offset = op.number(node.number("spatial_scale", 1.0)), op.number(0.5 if half_pixel else 0.0)
    start, end = (op.Sub(op.Mul(op.slice(regions, {1: (i, i + 1)}), scale), offset) for i in sides)
    extent = op.Sub(end, start)
    if not half_pixel:
        extent = op.Max(extent, op.number(1))
    step = op.unsqueeze(op.Div(extent, op.number(outputs)), [2])
    first = op.Add(op.unsqueeze(start, [2]), op.Mul(op.number([[i] for i in range(outputs)]), step))
    points, taken, count = _sampling(op, node, step)  # (regions,outputs,points)
    at = op.Add(first, op.Div(op.Mul(op.Add(points, op.number(0.5)), step), count))
    # Points further than a cell outside count as zero, nearer ones as the outermost cell.
    inside = op.Not(op.Or(op.Less(at, op.number(-1)), op.Greater(at, op.number(size))))
    share = op.indicator(inside if taken is None else op.And(inside, taken))
    at = op.unsqueeze(op.Min(op.Max(at, op.number(0)), op.number(size - 1)), [3])
    weight = op.Max(op.Sub(op.number(1), op.Abs(op.Sub(at, op.number(list(range(size)))))), op.number(0))
    return op.sum(op.Mul(weight, op.unsqueeze(op.Div(share, count), [3])), [2], keepdims=False)


def _sampling(op: Ops, node: BackwardNode, step: Value) -> tuple[Value, Value | None, Value]:
    """(points, taken, count): numbers of the sampling points of an output, which of them a region has, how many.

    sampling_ratio 0: one for each cell begun, so regions differ, and `taken` is (regions,1,points), None for all.
    """
    ratio = node.integer("sampling_ratio", 0)
    if ratio > 0:
        return op.number(list(range(ratio))), None, op.number(ratio)
    count = op.Max(op.Ceil(step), op.number(0))
    most = op.Max(op.ReduceMax(count, keepdims=0), op.number(1))
    points = op.Range(op.number(0), most, op.number(1))
    return points, op.Less(points, count), op.Max(count, op.number(1))
