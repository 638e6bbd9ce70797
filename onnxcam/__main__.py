"""`python -m onnxcam` is the command `onnxcam`."""

from onnxcam.cli.start import start

if __name__ == "__main__":
    start()
