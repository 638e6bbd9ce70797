"""`python -m onnxcam` is the command `onnxcam`."""

from onnxcam.cli.main import run

if __name__ == "__main__":
    run()
