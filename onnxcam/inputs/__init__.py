"""Everything that comes in besides the model: files and arrays become the tensor that the network takes.

In: paths, pictures, arrays, and the files beside a model. Out: `ModelInput`, with the image as a tensor and its
`Placement` on the picture, and the choices of preset, size, labels and extra inputs with their origins.

    choices.py              chooses the preset, the size and the labels for a model; uses
        processor_config.py     the preset that travels with it
        presets.py              Preset, PRESETS, and a preset's fields from text
        labels.py               class names, and the class of a label
        sidecar.py              the files beside the model
        bundled.py              the model and the photographs of this package
    loader.py               then loads each image; uses
        images.py               decodes a picture
        preprocess.py           applies the preset
        dlpack.py               takes arrays that lie on a device
"""
