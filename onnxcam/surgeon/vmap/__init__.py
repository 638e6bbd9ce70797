"""The batch rewrite: a graph exported for one sample becomes a graph for N samples (vmap over ONNX).

In: a graph with a fixed batch size, and the shapes of its tensors from one run. Out: a graph that takes any number of
samples and computes for each what the original computes for it alone. Nothing is run here.

    driver      free_batch(): walks the graph and applies the rule of each operator
    task        what a rule receives: the node, its inputs, and where the batch axis lies in each
    registry    the table of rules, and the operators that cannot be batched
    shaping     Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Expand, Tile, Concat, Split, Slice, Pad, Shape, ...
    indexing    Gather, GatherElements, GatherND, ScatterElements, ScatterND, OneHot
    pointwise   elementwise operators, Softmax, LayerNormalization, CumSum, TopK, ArgMax, Reduce*, quantisation
    products    MatMul, Gemm, Einsum and their quantised and fused forms
    layers      Conv, pooling, BatchNormalization, Resize, LSTM/GRU/RNN, Attention, and operators without a rule
"""
