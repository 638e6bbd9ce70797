"""Everything that is made of an explanation: values, pictures and files. Never runs a model.

In: `Saliency`, as the explainer makes it, and the picture that it explains. Out: drawings, JSON records and files.

    saliency.py             Saliency, ScoredTarget, Provenance, Channels: the result itself
        explanations.py         several of them together
        regions.py, annotations.py, rows.py, notebook.py, saving.py     what they do, a file each
        picture_names.py        which results are of one picture, for annotations.py
    drawing.py              the pictures by name; colours.py and style.py say how they look
    overlay.py              draws the map over a photograph, alone, and with a caption; text by typesetting.py
        signal.py, volume.py    draw it over a 1-D signal, an array that is no photograph, the slices of a volume
    record.py               the JSON record; record.schema.json is its schema
    formats.py              FORMATS: the files of an explanation
    paths.py                names the files of a call
    atomic.py               writes them, all or none
"""
