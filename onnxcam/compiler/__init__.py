"""Compiles an explanation: a model and a method in, one ONNX file out that answers with the class and its map.

compiled         compile(): a file that is stored, or one that is built now, as Compiled
stored           compiled files in the cache folder, and what they are known by
building         the steps of a compilation
prepared         Prepared: what a builder knows of the opened model
families         which methods can be compiled, and how each runs
registry         the builder of each of them, and how it is compared
batch_methods    methods without a loop, which take any batch; of the parts in
    batch_graph      the model with its scores and its target, to which a method adds its map
    rows             several targets of one image
    gradient_cams    Grad-CAM and its kin, CAM
    feature_cams     Eigen-CAM and Recipro-CAM
    ablation         Ablation-CAM
    pixel_gradients  gradient, guided backpropagation
    integrated_gradients, way_places    integrated gradients
    loop_body        the body of a Loop that a method adds
loop_methods     methods that score many masks or search, as a Loop; of the parts in
    loop_graph       a Loop around the model, whose first turn is the unmasked image
    outputs_of_one   the model's own outputs for one image
    fill_graph       what replaces removed pixels
    mask_queue       the feature maps that are masks, in the order in which they are scored
    score_cam        Score-CAM
    budget           Score-CAM with a budget, of the parts in
    process_graph    a Gaussian process over masks
    choice_graph     which masks are scored next
    estimate_graph   the weights of all masks, from the scores of some
    rise             RISE
    opti_cam         Opti-CAM
    mask             Mask
    adam_graph       Adam, for the two that search
interface        the inputs and outputs of a compiled file, and their names
publishing       gives a graph these inputs and outputs
preprocessing    a picture of any size as the input, and the map on it
    picture_sides    what the sides of a picture are resized to, and where it lies on the input
    resizing         Pillow's and OpenCV's resizing as a graph
compact_constants    constants of the added nodes, in little room
file_types       inputs, outputs and weights in the element types of the model's own file
metadata         what a compiled file says of itself, which `onnxcam inspect` shows
triton           a model repository of Triton, made from a compiled file
compared_pictures    the pictures on which a file is compared, and how far it was off
checking         the last step: the file's maps against those of an Explainer
    rounding     numbers rounded another way, to see what that changes
    feeds        inputs of the model's own graph
"""
