"""The size of a layer's output, worked out: "(224 + 2*3 - 7) // 2 + 1 = 112".

The course's formula (I:1071) has no floor; here it has one, as the layers do. Course: rows I§21, A17.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["adaptive_size", "both", "conv_size", "padded_size", "transposed_size"]


def conv_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, ceil_mode: bool = False
) -> tuple[int, str]:
    """The size behind a convolution or a pooling window, and how it comes about.

    ceil_mode: a last window that hangs over the end counts, unless it would begin in the padding.
    """
    reach = dilation * (kernel - 1) + 1
    text = str(size) + (f" + 2*{padding}" if padding else "")
    text += f" - {dilation}*({kernel} - 1) - 1" if dilation > 1 else f" - {kernel}"
    free = size + 2 * padding - reach
    if not ceil_mode:
        out = free // stride + 1
        return out, f"({text}) // {stride} + 1 = {out}"
    out = -(-free // stride) + 1
    text = f"ceil(({text}) / {stride}) + 1"
    if (out - 1) * stride >= size + padding:
        return out - 1, f"{text} - 1 = {out - 1} (the last window would begin in the padding)"
    return out, f"{text} = {out}"


def transposed_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, extra: int = 0
) -> tuple[int, str]:
    """The size behind a transposed convolution, and how it comes about. extra: its output padding."""
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
    text = f"({size} - 1)*{stride}" + (f" - 2*{padding}" if padding else "")
    text += f" + {dilation}*({kernel} - 1)" + (f" + {extra}" if extra else "") + " + 1"
    return out, f"{text} = {out}"


def adaptive_size(size: int, out: int) -> tuple[int, str]:
    """The size behind pooling to a given number of units, and which windows that takes."""
    if size % out == 0:
        return out, f"{out} windows of {size} // {out} = {size // out}"
    return out, f"{out} windows from i*{size} // {out} to ceil((i + 1)*{size} / {out})"


def padded_size(size: int, before: int, after: int) -> tuple[int, str]:
    """The size behind padding, or behind cropping where it is negative."""
    parts = "".join(f" {'+' if n > 0 else '-'} {abs(n)}" for n in (before, after) if n)
    return size + before + after, f"{size}{parts} = {size + before + after}"


def both(texts: Sequence[str]) -> str:
    """The formulas of height and width as one text."""
    return texts[0] if len(set(texts)) == 1 else f"height {texts[0]}, width {texts[1]}"
