"""The documentation as a whole: links, the navigation and the reference; and the built site (marked `site`)."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import yaml

import onnxcam
from onnxcam import errors

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs/site"
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    folders = ("docs", "models", "examples/web", "examples/node", "examples", "examples/notebooks")
    return [*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).glob("*.md")), *how_to()]


def how_to() -> list[Path]:
    return sorted((ROOT / "docs/how-to").glob("*.md"))


def anchors(page: Path) -> set[str]:
    """The anchors that a code host makes of a page's headings: lower case, no punctuation, a dash for each space."""
    text = FENCED.sub("", page.read_text())
    titles = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


def broken(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(re.sub(r"`[^`\n]+`", "", FENCED.sub("", text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            yield f"{page.relative_to(ROOT)}: {target}"


def test_every_link_of_the_project_leads_to_a_file_and_a_heading() -> None:
    assert [link for page in pages() for link in broken(page, page.read_text())] == []


def test_a_link_to_nothing_is_noticed() -> None:
    text = "[a](no.md) [b](docs/methods.md#no-heading) [c](docs/methods.md#opti-cam) `[d](code.md)` [e](https://x.org)"
    assert list(broken(ROOT / "README.md", text)) == ["README.md: no.md", "README.md: docs/methods.md#no-heading"]


def navigation() -> list[str]:
    text = re.sub(r"!!python\S+", "", (SITE / "mkdocs.yml").read_text())

    def leaves(part: object) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            yield from (leaf for value in part.values() for leaf in leaves(value))
        elif isinstance(part, list):
            yield from (leaf for value in part for leaf in leaves(value))

    return list(leaves(yaml.safe_load(text)["nav"]))


def test_every_page_of_docs_stands_in_the_navigation_once() -> None:
    listed = navigation()
    assert len(listed) == len(set(listed))
    written = {str(page.relative_to(ROOT / "docs")) for page in [*(ROOT / "docs").glob("*.md"), *how_to()]}
    assert sorted(written - set(listed)) == []


def site_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_notebook_becomes_markdown_with_its_outputs_and_an_error_is_refused(tmp_path: Path) -> None:
    def page(*outputs: dict[str, object]) -> str:
        cells = [
            {"cell_type": "markdown", "source": ["# Title\n", "text"]},
            {"cell_type": "code", "source": "f()", "outputs": outputs},
        ]
        path = tmp_path / "n.ipynb"
        path.write_text(json.dumps({"cells": cells}))
        return str(site_module("notebooks").markdown(path))

    assert page() == "# Title\ntext\n\n```python\nf()\n```\n"
    assert ">a &lt; b</code>" in page({"output_type": "stream", "text": ["a < b\n"]})
    data = {"text/html": ["<style>x</style>", "<b>map</b>"], "text/plain": "map"}
    shown = page({"output_type": "execute_result", "data": data})
    assert "<b>map</b>" in shown
    assert "style" not in shown
    assert 'src="data:image/png;base64,QUJD"' in page({"output_type": "display_data", "data": {"image/png": "QU\nJD"}})
    with pytest.raises(ValueError, match="error"):
        page({"output_type": "error", "ename": "ZeroDivisionError"})


def reference_names() -> list[str]:
    module = site_module("reference")
    assert {f"reference/{name}.md" for name in module.PAGES} <= set(navigation())
    return [name for page in module.PAGES.values() for name in page.names]


def test_every_public_name_stands_in_the_reference_once() -> None:
    names = reference_names()
    assert len(names) == len(set(names))
    classes = {name for name, c in vars(errors).items() if isinstance(c, type) and issubclass(c, onnxcam.OnnxCamError)}
    described = {f"onnxcam.errors.{name}" for name in classes - {"OnnxCamError"}}
    assert set(names) == {f"onnxcam.{name}" for name in onnxcam.__all__} | described


def test_every_method_has_a_picture() -> None:
    shown = re.findall(r"\(methods/(.+)\.webp\)", (ROOT / "docs/methods.md").read_text())
    assert sorted(shown) == sorted(onnxcam.METHODS)


def test_the_pictures_of_the_documentation_stay_small() -> None:
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in {".png", ".jpg", ".webp", ".svg"}]
    assert len(pictures) > len(onnxcam.METHODS)
    assert sum(path.stat().st_size for path in pictures) < 1_500_000


class Resources(HTMLParser):
    """What a browser loads for a page, and the anchors in it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        place = values.get("src") or (values.get("href") if tag == "link" else None)
        if place and place.startswith("data:image/"):  # of a notebook; it stands in the page
            return
        if place and values.get("rel") not in {"canonical", "next", "prev", "alternate"}:
            self.loaded.append(place)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", SITE / "mkdocs.yml", "-d", folder]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    return folder


def parsed(page: Path) -> Resources:
    resources = Resources()
    resources.feed(page.read_text())
    return resources


@pytest.mark.site
def test_no_page_of_the_site_loads_anything_from_elsewhere(site: Path) -> None:
    built = list(site.rglob("*.html"))
    assert len(built) > 30
    for page in built:
        for place in parsed(page).loaded:
            assert not re.match(r"([a-z]+:)?//", place), f"{page}: {place}"
            folder = site if place.startswith("/") else page.parent
            assert (folder / unquote(place).lstrip("/").partition("?")[0]).exists(), f"{page}: {place}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.site
def test_every_public_name_has_its_place_on_the_site(site: Path) -> None:
    ids = {name for page in (site / "reference").rglob("*.html") for name in parsed(page).ids}
    assert set(reference_names()) - ids == set()
    assert "onnxcam.Explainer.explain" in ids
    page = (site / "reference/errors/index.html").read_text()
    assert "A picture that cannot be read, or does not fit the model." in page
    start = (site / "reference/index.html").read_text()
    assert 'href="explainer/#onnxcam.Explainer"' in start
    assert 'href="errors/"' in start


@pytest.mark.site
def test_a_notebook_is_a_page_with_its_code_its_maps_and_its_links(site: Path) -> None:
    notebooks = sorted(path.stem for path in (ROOT / "examples/notebooks").glob("*.ipynb"))
    assert {f"notebooks/{name}.md" for name in [*notebooks, "index"]} == {n for n in navigation() if "notebooks/" in n}
    for name in notebooks:
        page = (site / f"notebooks/{name}/index.html").read_text()
        assert "data:image/" in page
        assert "Explainer" in page
        assert ".ipynb)" not in page, "a link that was left as Markdown"
    first = (site / "notebooks/first-steps/index.html").read_text()
    assert 'href="../compare-and-measure/"' in first
    assert 'href="../../preprocessing/"' in first
    assert re.search(r">espresso +95\.7%$", first, re.MULTILINE) is not None
    assert "../../models/coffee.jpg: provenance</summary>" in first


@pytest.mark.site
def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/index.md").write_text("# Start\n\n[nothing](nothing.md)\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: test\ndocs_dir: pages\nhooks: [{SITE}/hooks.py]\nplugins: []\nnav: [index.md]\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "docs/index.md: the link nothing.md leads to nothing" in done.stderr
