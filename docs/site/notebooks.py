"""Notebooks as pages of the site: their text, code and stored outputs as Markdown. Nothing is executed."""

import html
import json
import re
from pathlib import Path
from typing import Any

STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
PICTURES = ("image/png", "image/jpeg")


def markdown(path: Path) -> str:
    """The page of a stored notebook. Raises ValueError for an output that no page shows."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell)) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if output["output_type"] == "stream":
        return _text(output["text"])
    if "text/html" in data:
        # Without the style of its own a table looks like the others of the site.
        table = STYLE.sub("", "".join(data["text/html"])).replace('<table border="1" class="dataframe">', "<table>")
        return f'<div class="output">\n{table}\n</div>'
    for form in PICTURES:
        if form in data:
            encoded = "".join(data[form]).replace("\n", "")
            return f'<div class="output"><img alt="output of the cell above" src="data:{form};base64,{encoded}"></div>'
    if "text/plain" in data:
        return _text(data["text/plain"])
    raise ValueError(f"an output of the type {output['output_type']} with {', '.join(data) or 'nothing'}")


def _text(lines: list[str] | str) -> str:
    return f'<pre class="output"><code>{html.escape("".join(lines).rstrip())}</code></pre>'
