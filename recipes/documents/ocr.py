"""Letters in pictures, by RapidOCR: PP-OCRv6's small models for Chinese and English lie in its wheel."""

from functools import cache
from typing import Any

from documents.layout import Line


@cache
def _engine() -> Any:
    """The models, once in a process."""
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            # Files are read side by side; onnxruntime would take every core in each process.
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # Lines of several lengths in one batch are padded to the longest: 7.7 s for a page, 6.0 s so.
            "Rec.rec_batch_num": 1,
            # An arena keeps room for every width that it saw: 1.4 GB after eight pages, 0.9 GB without.
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )


def read(picture: Any, scale: float) -> list[Line]:
    """The lines of a page.

    Args:
        picture: height x width x 3, 8 bits, blue first.
        scale: pixels of a point.

    Returns:
        Lines in points; a line's size is the height of its box, a fifth more than that of its font.
    """
    found = _engine()(picture)
    if found.boxes is None or found.txts is None:
        return []
    lines = []
    for box, text in zip(found.boxes, found.txts, strict=True):
        x0, top = (float(box[:, axis].min()) / scale for axis in (0, 1))
        x1, bottom = (float(box[:, axis].max()) / scale for axis in (0, 1))
        if text.strip():
            lines.append(
                Line(
                    text=text.strip(),
                    x0=x0,
                    x1=x1,
                    top=top,
                    bottom=bottom,
                    size=max(0.8 * (bottom - top), 1.0),
                )
            )
    return lines
