"""What MkDocs does besides rendering docs/: the reference, pages from outside of docs/, notebooks, links that leave it.

docs/ is written to be read on the code host too, where a link may lead to any file of the repository. On the site, a
link to a page leads to that page, and one to another file becomes its path in words. A link to nothing ends the build.
"""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
sys.path.insert(0, str(SITE))

# Hooks are no package: MkDocs loads this file by its path.
from notebooks import markdown as notebook_page  # noqa: E402
from reference import PAGES  # noqa: E402

OUTSIDE = {
    "SECURITY.md": "security-policy.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "examples/notebooks/README.md": "notebooks/index.md",
    **{
        f"examples/notebooks/{path.name}": f"notebooks/{path.stem}.md"
        for path in sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
    },
    "examples/web/README.md": "web-page.md",
    "examples/node/README.md": "node.md",
    "models/efficientnet-lite0.md": "embedded-model.md",
}
"""Pages from outside of docs/: the file in the repository, and its name on the site."""
WRITTEN_AS = {site: repository for repository, site in OUTSIDE.items()}
CODE_OR_LINK = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)|(?P<mark>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page.markdown()))
    for repository, site in OUTSIDE.items():
        path = ROOT / repository
        content = notebook_page(path) if path.suffix == ".ipynb" else path.read_text("utf-8")
        files.append(File.generated(config, site, content=content))
    return files


def reference_links(markdown: str) -> str:
    """The table of docs/reference.md, with each page and each public name as a link, which only the site can have."""
    names = {name.removeprefix("onnxcam.") for page in PAGES.values() for name in page.names}
    for file, page in PAGES.items():
        markdown = markdown.replace(f"| {page.title} |", f"| [{page.title}](reference/{file}.md) |")
    return re.sub(r"`(\w+)`", lambda code: f"[{code[0]}][onnxcam.{code[1]}]" if code[1] in names else code[0], markdown)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation"]  # which holds this page alone; the tabs stay
    if here.startswith("reference/"):
        return markdown
    written_as = WRITTEN_AS.get(here, f"docs/{here}")
    pages = {WRITTEN_AS.get(file.src_uri, f"docs/{file.src_uri}"): file.src_uri for file in files}

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if match["code"] or re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        repository = posixpath.normpath(posixpath.join(posixpath.dirname(written_as), path))
        if repository in pages or f"{repository}/README.md" in OUTSIDE:
            uri = pages.get(repository) or OUTSIDE[f"{repository}/README.md"]
            site = posixpath.relpath(uri, posixpath.dirname(here) or ".")
            return f"{match['mark']}[{match['text']}]({site}{hash_}{anchor})"
        if not (ROOT / repository).exists():
            raise PluginError(f"{written_as}: the link {target} leads to nothing")
        return f"{match['text']} (`{repository}` in the repository)"

    linked = CODE_OR_LINK.sub(link, markdown)
    return reference_links(linked) if here == "reference.md" else linked
