"""Finds what an explanation needs in a graph, without changing it: Model in, Anatomy out. Runs nothing.

tracing.py      builds the model that reports all shapes of one run, and reads its outputs (network/ runs it)
axes.py         follows the meaning of every axis from the image through the graph
heads.py        finds the tensor that is scored
frontier.py     walks back from that tensor to where the spatial grid is lost
locate.py       joins these: image input, logits, feature tensor; the entry point is locate()
anatomy.py      the results as values
dominators.py   tensors that every path crosses, for class tokens (network/class_token.py)
"""
