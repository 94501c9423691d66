"""How sharp a picture is."""

from __future__ import annotations

import numpy as np

from imgindex.types import Pixels


def measure(pixels: Pixels) -> float:
    """Return the variance of the Laplacian of a picture's grey values, divided by theirs; pixels (height, width, 3).

    It is high where neighbouring pixels differ: edges and detail, but noise too. Compare pictures at one size only. The
    measure is that of Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, which grows with
    brightness and contrast; the division removes that. 0 for a picture of one colour, or below 3 × 3 pixels.
    """
    if min(pixels.shape[:2]) < 3:
        return 0.0
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    contrast = np.var(grey, dtype=np.float64)
    return float(np.var(around - 4 * grey[1:-1, 1:-1], dtype=np.float64) / contrast) if contrast else 0.0
