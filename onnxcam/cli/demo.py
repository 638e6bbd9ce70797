"""`onnxcam demo`: explain the embedded photographs with the embedded model."""

from onnxcam.cli.explain import explain_pictures
from onnxcam.cli.groups import command
from onnxcam.cli.options import ExplainArgs, FileArgs, Json, MethodArgs, Quiet


@command
def demo(method: MethodArgs, files: FileArgs, quiet: Quiet = False, json: Json = False) -> None:
    """Explain a photograph of a cat and one of a cup with the embedded EfficientNet-Lite0."""
    from onnxcam.inputs.bundled import model, pictures

    images = [str(path) for path in pictures().values()]
    explain_pictures(ExplainArgs(model=str(model()), images=images, method=method, files=files, quiet=quiet, json=json))
