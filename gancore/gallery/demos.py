"""One demonstration: its figures and its drawing, as plain values for a JSON file."""

import base64
import io
import time
import traceback
from typing import Any

from gancore.gallery import measure
from gancore.recipes import get

COLOURS = 32  # of the palette: drawings of a few lines need no more, and take a third of the bytes


def results(name: str) -> dict[str, Any]:
    """A demonstration with its own parameters, in the form of `gancore.gallery.measure.results`: no runs, but figures."""
    start, entry = time.process_time(), get(name, "demo")
    found: dict[str, Any] = {"figures": {}}
    try:
        made = entry.function()
    except Exception as error:
        traceback.print_exc()
        found["failed"] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    else:
        figures, drawing = made if isinstance(made, tuple) else (made, None)
        found["figures"] = {name: float(f"{value:.6g}") for name, value in figures.items()}
        found |= {"picture": picture(drawing)} if drawing is not None else {}
    return {**measure.results(name, []), **found, "seconds": round(time.process_time() - start, 1)}


def picture(drawing: Any) -> str:
    """A matplotlib figure or a PIL image as a PNG of few colours, a data URI."""
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    (drawing.savefig if hasattr(drawing, "savefig") else drawing.save)(buffer, format="PNG")
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()
