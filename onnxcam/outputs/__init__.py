"""Everything that is made of an explanation: values, pictures and files. Never runs a model.

In: `Saliency`, as the explainer makes it, and the picture that it explains. Out: drawings, JSON records and files.

    saliency.py             Saliency, ScoredTarget, Provenance, Channels: the result itself
    overlay.py              draws the map over a photograph, alone, and with a caption; text by typesetting.py
        signal.py, volume.py    draw it over a 1-D signal, an array that is no photograph, the slices of a volume
    record.py               the JSON record; record.schema.json is its schema
    formats.py              FORMATS: png, npy and json files of an explanation
    paths.py                names the files of a call
    atomic.py               writes them, all or none
"""
