"""Runs the notebooks of examples/notebooks and stores each with what it showed, or prints where one differs.

    python tools/run_notebooks.py                                             # all of them
    python tools/run_notebooks.py examples/notebooks/detector.ipynb
    python tools/run_notebooks.py --check                                     # writes nothing, exits 1 for a difference

Needs `pip install -e ".[cpu,notebooks]"`. Of each output the richest form is stored, HTML before a picture before text,
and no metadata of an editor. Beside the HTML of a result its picture is stored too, as a JPEG, for readers of notebooks
that clean HTML. Times in the records of maps differ from run to run; --check leaves records out.
"""

import argparse
import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "examples/notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
RICHEST = ("text/html", "image/png", "image/jpeg", "text/plain")
"""The forms of an output, of which the first is stored."""
QUALITY = 80
FOLDED = re.compile(r"<pre.*?</pre>", re.DOTALL)
EMBEDDED = re.compile(r"base64,[^\"]*")
STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
RELATIVE, ABSOLUTE = 0.02, 0.02


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook after a run from the top in its own folder, clean. Raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, 4)
    place = {"metadata": {"path": str(path.resolve().parent)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources=place)
    client.execute()
    return clean(notebook)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the metadata of every other one, cells that are numbered, and what is stored of each output."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5  # the first with ids of cells
    for i, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{i}", nbformat.from_dict({})
        for output in cell.get("outputs", ()):
            if "data" in output:
                output.data, output.metadata = _stored(output.data), nbformat.from_dict({})
    return notebook


def _stored(data: nbformat.NotebookNode) -> dict[str, str]:
    """The richest form of an output, and beside HTML its PNG, where there is one, as a JPEG."""
    form = next(form for form in RICHEST if form in data)
    forms = {form: data[form]}
    if form == "text/html" and "image/png" in data:
        file = io.BytesIO()
        with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
            picture.convert("RGB").save(file, "JPEG", quality=QUALITY)
        forms["image/jpeg"] = base64.b64encode(file.getvalue()).decode("ascii")
    return forms


def shown(cell: Any) -> list[tuple[str, str]]:
    """(form, text) of each output of a code cell: without drawings, and without the record that is folded."""
    outputs = []
    for output in cell.get("outputs", ()):
        if "data" not in output:
            outputs.append((output.output_type, output.get("text", "")))
            continue
        for form, content in sorted(output.data.items()):  # as files have them
            text = "" if form.startswith("image/") else EMBEDDED.sub("", STYLE.sub("", FOLDED.sub("", content)))
            outputs.append((form, text))
    return outputs


def alike(one: str, other: str) -> bool:
    """Whether two texts have the same words, and numbers that are close: runtimes round differently."""
    if NUMBER.split(one) != NUMBER.split(other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(abs(float(a) - float(b)) <= ABSOLUTE + RELATIVE * abs(float(a)) for a, b in pairs)


def differences(stored: nbformat.NotebookNode, fresh: nbformat.NotebookNode) -> Iterator[str]:
    """Says of each cell that shows something else than what is stored what both are."""
    for i, (before, after) in enumerate(zip(stored.cells, fresh.cells, strict=True), 1):
        old, new = shown(before), shown(after)
        same_forms = [form for form, _ in old] == [form for form, _ in new]
        if not same_forms or not all(alike(a, b) for (_, a), (_, b) in zip(old, new, strict=True)):
            yield f"cell {i} shows {new}, stored is {old}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="files; all of examples/notebooks if none is named")
    parser.add_argument("--check", action="store_true", help="compare with what is stored, and write nothing")
    arguments = parser.parse_args()
    differ = False
    for path in arguments.notebooks or sorted(FOLDER.glob("*.ipynb")):
        fresh = executed(path)
        if arguments.check:
            lines = list(differences(nbformat.read(path, 4), fresh))
            differ = differ or bool(lines)
            print("\n".join([f"{path.name}: {'differs' if lines else 'as stored'}", *lines]))
        else:
            nbformat.write(fresh, path)
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")
    return int(differ)


if __name__ == "__main__":
    raise SystemExit(main())
