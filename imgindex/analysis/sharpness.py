"""How sharp a picture is."""

from __future__ import annotations

import numpy as np

from imgindex.types import Pixels


def measure(pixels: Pixels) -> float:
    """Return the variance of the Laplacian of a picture's grey values, against theirs; pixels (height, width, 3).

    Great where neighbouring pixels differ: edges and detail, noise too. Pictures are to be compared at one size. After
    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, whose measure grows with brightness
    and contrast too, this one does not. 0 for one colour, and for less than 3 × 3 pixels.
    """
    if min(pixels.shape[:2]) < 3:
        return 0.0
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    contrast = np.var(grey, dtype=np.float64)
    return float(np.var(around - 4 * grey[1:-1, 1:-1], dtype=np.float64) / contrast) if contrast else 0.0
