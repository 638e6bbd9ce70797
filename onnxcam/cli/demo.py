"""`onnxcam demo`: explain the embedded photographs with the embedded model, or show the page that does so."""

from typing import Annotated

from onnxcam.cli.explain import explain_pictures
from onnxcam.cli.explain_options import ExplainArgs
from onnxcam.cli.groups import command
from onnxcam.cli.options import FileArgs, MethodArgs
from onnxcam.cli.shared_options import RUN, Json, Quiet, flag, option
from onnxcam.errors import OptionError


@command
def demo(
    method: MethodArgs,
    files: FileArgs,
    web: Annotated[
        bool, flag(RUN, "Show the page that explains in the browser, from a server of this machine alone.", "--web")
    ] = False,
    page: Annotated[
        str | None,
        option(
            RUN,
            "The folder of the page, as examples/web/build.py makes it. Default: dist/ beside that in a checkout.",
            metavar="FOLDER",
        ),
    ] = None,
    browser: Annotated[bool, flag(RUN, "Open the page in a browser.")] = True,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Explain a photograph of a cat and one of a cup with the embedded EfficientNet-Lite0."""
    if web:
        from onnxcam.cli.web_page import serve

        if method != MethodArgs() or files != FileArgs():
            raise OptionError("--web shows a page, which has its own methods and files; leave out the other options")
        serve(page, open_browser=browser, quiet=quiet, json=json)
        return
    if page is not None or not browser:
        raise OptionError("--page and --no-browser are about the page of the demo; give --web too")
    from onnxcam.inputs.bundled import model, pictures

    images = [str(path) for path in pictures().values()]
    explain_pictures(ExplainArgs(model=str(model()), images=images, method=method, files=files, quiet=quiet, json=json))
