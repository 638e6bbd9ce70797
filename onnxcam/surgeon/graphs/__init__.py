"""The graphs that onnxcam runs instead of the user's model, built from it. Nothing is run here.

In: a model and its anatomy (where image, features and logits are). Out: new models, which network/ opens as sessions.

    masked_score     the scoring graph: masks are upsampled, multiplied with the image, and the masked images scored
    score_heads      the end of the scoring graph: from the model's output to one number per sample and target
    score_gradient   the scoring graph with its gradient by the masks, the image or the features
    tail             the part of the model behind the feature tensor
    device_kernels   small graphs for features that stay on a device: to channels, select rows, weighted sums
    cell_maps        a feature tensor to maps, and back, in a graph
    finish_map       the last step of an explanation as a graph: ReLU, resizing, scaling to [0,1]
    graft            a graph of the same model put into another one, with the weights shared
"""
