"""The Helm chart, rendered as Helm does; `python -m tests.charts` writes the plain manifests anew."""

import functools
import importlib
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "kubernetes"
PLAIN: Final = FOLDER / "gridtide.yaml"
_HEAD: Final = """\
# Rendered from the chart beside this file with example-values.yaml, for who does not use Helm: edit, then
# kubectl apply --namespace gridtide -f gridtide.yaml. The namespaces gridtide and training must exist.
"""

Document = dict[str, Any]


@functools.cache
def _chart() -> Any:
    return importlib.import_module("helm_python").Chart.load(str(FOLDER / "chart"))


def example_values() -> Document:
    """What the plain manifests are rendered with."""
    values: Document = yaml.safe_load((FOLDER / "example-values.yaml").read_text(encoding="utf-8"))
    return values


def render_texts(values: Document) -> list[str]:
    """Each template's text that holds a manifest, in the order of their names."""
    rendered = _chart().render(values, name="gridtide", namespace="gridtide")
    names = sorted(name for name in rendered if not name.endswith("NOTES.txt"))
    return [rendered[name].strip() for name in names if rendered[name].strip()]


def render(values: Document) -> list[Document]:
    """The manifests."""
    parts = (yaml.safe_load_all(text) for text in render_texts(values))
    return [one for part in parts for one in part if one]


def plain_text() -> str:
    """The plain manifests."""
    parts = (text.removeprefix("---\n") for text in render_texts(example_values()))
    return _HEAD + "".join(f"---\n{part}\n" for part in parts)


if __name__ == "__main__":
    PLAIN.write_text(plain_text(), encoding="utf-8")
