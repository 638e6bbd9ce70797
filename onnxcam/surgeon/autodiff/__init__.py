"""Reverse-mode differentiation of ONNX graphs, written in standard ONNX operators.

In: a graph, the tensors to differentiate, and the tensors to differentiate them with respect to. Out: the same graph
with more nodes, which compute the gradients. Nothing is run here.

A cotangent is the gradient of the score with respect to a tensor (PyTorch: grad_output, grad_input).

    rules/   one function per operator: the cotangent of its output to the cotangents of its inputs
    driver   walks the graph backwards, calls the rules, sums cotangents and undoes broadcasting

surgeon/graphs/score_gradient.py uses it to build the graph of a score and its gradient.
"""
