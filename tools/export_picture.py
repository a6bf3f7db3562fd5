"""Copy the README's picture out of the chapter that draws it, so that the two cannot differ."""

import base64
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "book/ch03_deriving_nesterov.ipynb"
PICTURE = ROOT / "book/_static/nesterov-is-optimal.png"

figures = [
    output["data"]["image/png"]
    for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == "fig-optimal"
    for output in cell["outputs"]
    if "image/png" in output.get("data", {})
]
PICTURE.write_bytes(base64.b64decode(figures[0]))
