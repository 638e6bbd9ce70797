"""Runs ONNX graphs on onnxruntime, as fast as the machine allows, and knows nothing of how a model is built.

In: the bytes of a graph, NumPy arrays or tensors on a device, and options. Out: arrays, in the order of the samples.
A sample is one row of a batch: a mask, for the scoring graph. Everything that onnxruntime raises becomes an error of
onnxcam.

    providers    which execution providers run, in onnxruntime's own form or by short names
    options      how a GPU computes: memory cap, half precision, TF32, CUDA graphs
    session      one opened graph: Session.run
    batching     chunk sizes from the free memory; retries with half the chunk
    parallel     several runs side by side on a CPU; measures which plan is fastest (threads are chosen here)
    devices      where tensors lie, and how much memory is free there
    views        parts of tensors on a device
    io_binding   runs that keep images and masks on the device: BoundSession
"""
