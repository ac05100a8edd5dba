"""Small grey images as PNG data, dark ink on nothing, so that they suit any background."""

from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from fed_em.errors import CallerError

# Percentiles of all values from which a pixel is blank, and full: means that undershoot would grey everything else.
_BLANK_AND_FULL = (20, 99)


def png_of(images: NDArray[np.float64]) -> tuple[str, ...]:
    """A `data:` address for each of the images `(K, h, w)`: the larger a value, the more ink, on one scale for all.

    Raises:
        CallerError: they are no images, or hold values that are not finite.
    """
    if images.ndim != 3 or not np.isfinite(images).all():
        raise CallerError(f"component images must be finite and of shape (K, h, w), not {images.shape}")
    low, high = np.percentile(images, _BLANK_AND_FULL)
    ink = np.clip((images - low) / (high - low), 0.0, 1.0) if high > low else np.zeros(images.shape)
    return tuple(_png(image) for image in ink)


def _png(ink: NDArray[np.float64]) -> str:
    pixels = np.zeros((*ink.shape, 4))
    pixels[..., 3] = ink
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", metadata={"Software": "fed-em"})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
