"""Passes change a model. One contract for all: Model -> Model.

A pass is a function named by a verb. It takes a Model, with options where it needs them, and returns a new one; the
model that it receives stays as it is (ir.edit() gives the copy). It runs nothing, and raises ModelError where it cannot
do its work.

    fill_weights.py      store_filled_weights: weights that ConstantOfShape makes become initializers
    added_axes.py        add_axes: an input without batch or channel axis gets one of size 1
    control_flow.py      unroll_loops, take_branches: Loop and If are replaced by their contents
    expose_features.py   expose_features: the feature tensor becomes an output
    joined_pictures.py          split_off: features of several pictures in one batch become a tensor for each
    frame_axis.py        add_frame_axis: the features of frames that became a batch get an axis of time
    opset.py             raise_opset, decompose_operators, blank_weights: changes of the operators or weights as a whole
    single_precision.py  convert_to_single_precision: float32 everywhere, for gradients; convert_to_float32: in place of
                         a type that onnxruntime's CPU has no layers for
    randomise.py         randomise: the weights of some layers are drawn again, for the sanity check of maps
    mixed_precision.py   convert_to_mixed_precision: float16 where it is safe, for fast devices

quantised.py is no pass: its functions tell whether a tensor is quantised and give it back as real numbers.
preparation.py, network/first_opening.py and network/gradient_graphs.py call the passes, in the order that they need.
"""
