"""One opened model: turns a model file into a network that answers what a method needs of it.

In: a ModelFile and OpenOptions, then images (C,H,W) and targets. Out: feature maps, logits, scores of masked images,
gradients. It builds graphs with the surgeon and runs them on the engine.

Opening a model:
    opening        open_model: a file becomes an OpenedModel (opened), as stored (warm) or anew (first_opening)
    warm           what a first opening found, and its graph, stored for the next start; stored_graphs: the files
    first_opening  the steps of a first opening, each verified
    dry_run        shapes of all tensors and branches taken, from a run on noise
    batch_check    whether images in one batch change each other
    class_token    the last feature tensor whose patches count, for transformers
    extra_inputs   values of inputs other than the image
    cache          records of earlier openings, checked when they are read
Answering:
    scorer             Network: features, logits, scores of masked images
    packing            several images in one batch
    device_scorer      the same with tensors that stay on a GPU; device_features: feature maps and masks there
    gradients          GradientRunner: step graphs, built by gradient_graphs, opened by gradient_session
    tail               the network after its features
    single_flight      values made when first needed, each by one thread: the opened sessions
    probe              ImageProbe: one image and its targets, what a method sees
    export             the command `rewrite`: the model with its feature tensor as an output and a dynamic batch
"""
