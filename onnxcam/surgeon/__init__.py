"""The surgeon reads an ONNX model, finds the parts that matter, and builds new graphs from it. It runs nothing.

In: a path, bytes or a ModelProto. Out: models, as `ir.Model`, that the engine runs, and the Anatomy that describes one.

    loading.py      reads a file and gives a ModelFile
    checked_model.py  parses a file and checks it (validation.py: the checks that onnx lacks)
    ir.py           the graph and its questions: values, shapes, types; builder.py adds nodes to it
    analysis/       finds the image input, the tensor that is scored and the feature tensor; gives an Anatomy
    passes/         change a model: Model -> Model
    vmap/           makes the batch axis dynamic in an export that is fixed to one image
    autodiff/       adds the gradient of an output to the graph, from a table of rules for the operators
    graphs/         builds the graphs that explanations run: masked score, its gradient, tail behind the features
"""
