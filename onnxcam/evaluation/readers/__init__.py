"""Data sets of many formats as `DataSet`: read_data() in reading.py, a file a format, all of them in registry.py."""

from onnxcam.evaluation.readers.reading import read_data as read_data
from onnxcam.evaluation.readers.reading import sample as sample
