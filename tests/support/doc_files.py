"""The files that the snippets of the documentation read: a folder as a reader has it."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from small_models import filled

from onnxcam.inputs import bundled

DETECTOR = """<ir_version: 8, opset_import: ["" : 17]>
detector (float[1,3,64,64] images) => (float[1,7,64] output0)
<float[8,3,3,3] w0, float[7,8,1,1] w1, int64[3] flat = {1,7,-1}, int64[2] parts = {4,3},
 float[1,4,1] scale = {32,32,16,16}, float[1,4,1] shift = {32,32,24,24}>
{
  f0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[8,8]> (images, w0)
  f = Relu (f0)
  p = Conv <kernel_shape=[1,1]> (f, w1)
  rows = Reshape (p, flat)
  raw, c = Split <axis=1> (rows, parts)
  bounded = Tanh (raw)
  scaled = Mul (bounded, scale)
  sides = Add (scaled, shift)
  classes = Sigmoid (c)
  output0 = Concat <axis=1> (sides, classes)
}"""
NAMES = {"names": "{0: 'cup', 1: 'spoon', 2: 'table'}", "task": "detect", "stride": "8"}
GREY_OF_12_BITS = 16


def reader_folder(folder: Path) -> None:
    """model.onnx (a classifier), detector.onnx, labels.txt, photo.jpg, other.jpg, photos/, val2017/, scan.png of 12 bits, slice.dcm."""
    shutil.copy(bundled.model(), folder / "model.onnx")
    coffee = bundled.pictures()["coffee"]
    for name in ("photos", "val2017"):
        (folder / name).mkdir()
    for name in ("photo.jpg", "other.jpg", "photos/one.jpg", "photos/two.jpg", "val2017/one.jpg"):
        shutil.copy(coffee, folder / name)
    labels = json.loads(next(p.value for p in onnx.load(bundled.model()).metadata_props if p.key == "onnxcam.labels"))
    (folder / "labels.txt").write_text("\n".join(labels))
    model = filled(DETECTOR, check=False)
    for key, value in NAMES.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, folder / "detector.onnx")
    grey = np.asarray(Image.open(coffee).convert("L")).astype(np.uint16) * GREY_OF_12_BITS
    cv2.imwrite(str(folder / "scan.png"), grey)
    _slice(grey).save_as(folder / "slice.dcm", enforce_file_format=True)


def _slice(grey: np.ndarray) -> pydicom.Dataset:
    """As a scanner of 12 bits stores it, with its numbers from -1024 Hounsfield units on."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("slice.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = grey.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = grey.tobytes()
    return data
