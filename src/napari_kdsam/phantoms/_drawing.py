"""Drawing tools that the phantoms share: noise, outlines, strokes, camera.

Every field is float32 with axes (row, column) and lengths are in pixels unless a
docstring says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from napari_kdsam.core.geometry import Mask

Field = NDArray[np.float32]

SMALLEST_SIDE = 64


def checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return ``(height, width)`` as plain integers.

    Raises
    ------
    ValueError
        If `shape` is not two whole numbers of at least 64.
    """
    sides = tuple(shape)
    if len(sides) != 2 or any(s != int(s) or s < SMALLEST_SIDE for s in sides):
        raise ValueError(
            f'A phantom needs a (height, width) of at least {SMALLEST_SIDE} pixels '
            f'each, not {sides}.'
        )
    return int(sides[0]), int(sides[1])


def pixel_grid(shape: tuple[int, int]) -> tuple[Field, Field]:
    """Return the row and the column of every pixel, two (H, W) float32 fields."""
    rows, cols = np.indices(shape, dtype=np.float32)
    return rows, cols


def smooth_step(values: ArrayLike, low: float, high: float) -> Field:
    """Rise smoothly from 0 at `low` to 1 at `high` (fall if `low` > `high`)."""
    ramp = (np.asarray(values, dtype=np.float32) - low) / (high - low)
    ramp = np.clip(ramp, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float32)


def standardised(field: NDArray[Any]) -> Field:
    """Return `field` with mean 0 and standard deviation 1, as float32."""
    centred = field - field.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-9), dtype=np.float32)


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    along: float,
    across: float | None = None,
    angle: float = 0.0,
) -> Field:
    """Gaussian random field that wraps around at the edges.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the randomness.
    shape : tuple of int
        (rows, columns) of the field.
    along, across : float
        Standard deviation of the blur, in pixels, along the direction `angle`
        and across it; `across` defaults to `along`.
    angle : float
        Direction in radians: 0 runs along the columns' axis (left to right).

    Returns
    -------
    numpy.ndarray
        `shape`, float32, mean 0 and standard deviation 1.
    """
    across = along if across is None else across
    row_freq = fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    col_freq = fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    freq_along = col_freq * math.cos(angle) + row_freq * math.sin(angle)
    freq_across = row_freq * math.cos(angle) - col_freq * math.sin(angle)
    decay = (freq_along * along) ** 2 + (freq_across * across) ** 2
    spectrum = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    spectrum *= np.exp(-2 * math.pi**2 * decay)
    # The zero frequency is only an offset, and it would swamp a very smooth field
    spectrum[0, 0] = 0
    return standardised(fft.irfft2(spectrum, s=shape))


@dataclass(frozen=True, eq=False)
class Blob:
    """Irregular closed outline: an ellipse bent by low Fourier harmonics.

    Attributes
    ----------
    row, col : float
        Centre, in the units of the coordinates given to `margin`.
    radius : float
        Mean radius, same units.
    amplitudes, phases : numpy.ndarray
        (harmonics,) relative amplitude and phase of harmonics 2, 3, 4, ...
    elongation : float
        Ratio of the long axis to the short one, 1 or more.
    angle : float
        Direction of the long axis, radians.
    """

    row: float
    col: float
    radius: float
    amplitudes: NDArray[np.float64]
    phases: NDArray[np.float64]
    elongation: float
    angle: float

    def margin(self, rows: Field, cols: Field) -> Field:
        """Return the radial distance to the outline, positive inside it."""
        away, reach = self._polar(rows, cols)
        return np.asarray(reach - away, dtype=np.float32)

    def fraction(self, rows: Field, cols: Field) -> Field:
        """Return how far out a place is: 0 at the centre, 1 on the outline."""
        away, reach = self._polar(rows, cols)
        return np.asarray(away / reach, dtype=np.float32)

    def _polar(self, rows: Field, cols: Field) -> tuple[Field, Field]:
        """Return the distance from the centre and that of the outline there."""
        down, right = rows - self.row, cols - self.col
        stretch = math.sqrt(self.elongation)
        long = (right * math.cos(self.angle) + down * math.sin(self.angle)) / stretch
        short = (down * math.cos(self.angle) - right * math.sin(self.angle)) * stretch
        theta = np.arctan2(short, long)
        reach = np.ones_like(theta)
        waves = zip(self.amplitudes, self.phases, strict=True)
        for order, (amplitude, phase) in enumerate(waves, start=2):
            reach += np.float32(amplitude) * np.cos(order * theta + np.float32(phase))
        return np.hypot(long, short), np.float32(self.radius) * reach


def random_blob(
    rng: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    roughness: float,
    harmonics: int = 9,
    elongation: float = 1.4,
) -> Blob:
    """Draw a `Blob` whose outline strays from an ellipse by about `roughness`.

    `roughness` is a fraction of `radius`; `elongation` is the largest ratio of the
    axes that can be drawn.
    """
    orders = np.arange(2, 2 + harmonics)
    weights = rng.uniform(0.4, 1.0, harmonics) / orders**1.5
    return Blob(
        row=centre[0],
        col=centre[1],
        radius=radius,
        amplitudes=roughness * weights / math.sqrt(float(np.sum(weights**2))),
        phases=rng.uniform(0, 2 * math.pi, harmonics),
        elongation=float(rng.uniform(1.05, elongation)),
        angle=float(rng.uniform(0, math.pi)),
    )


def curve(points: ArrayLike, step: float = 0.5) -> NDArray[np.float64]:
    """Return (n, 2) points every `step` pixels or so along a quadratic Bezier curve.

    `points` are its three control points, (3, 2) as (row, column).
    """
    start, middle, end = np.asarray(points, dtype=np.float64)
    length = np.hypot(*(middle - start)) + np.hypot(*(end - middle))
    t = np.linspace(0, 1, max(2, int(length / step)))[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)


def add_stroke(
    canvas: Field,
    points: NDArray[np.float64],
    half_width: ArrayLike,
    strength: float = 1.0,
    wrap: bool = False,
) -> None:
    """Draw an anti-aliased line on `canvas` in place, keeping the larger value.

    Parameters
    ----------
    canvas : numpy.ndarray
        (H, W) float32 coverage, 0 to 1.
    points : numpy.ndarray
        (n, 2) closely spaced (row, column) points of the line.
    half_width : float or array_like
        Half the line's width in pixels, one number or one per point.
    strength : float
        Value at the middle of the line.
    wrap : bool
        Whether the columns wrap around; otherwise the line is cut at the edges.
    """
    half = np.broadcast_to(np.asarray(half_width, dtype=np.float64), len(points))
    reach = math.ceil(float(half.max()) + 0.5)
    span = np.arange(-reach, reach + 1)
    whole = np.rint(points).astype(np.intp)
    rows = whole[:, 0, None, None] + span[None, :, None]
    cols = whole[:, 1, None, None] + span[None, None, :]
    distance = np.hypot(
        rows - points[:, 0, None, None], cols - points[:, 1, None, None]
    )
    coverage = np.clip(half[:, None, None] + 0.5 - distance, 0, 1)
    # A line thinner than a pixel covers only part of it
    coverage *= strength * np.minimum(2 * half, 1)[:, None, None]
    rows, cols = np.broadcast_arrays(rows, cols % canvas.shape[1] if wrap else cols)
    seen = (coverage > 0) & (rows >= 0) & (rows < canvas.shape[0])
    seen &= (cols >= 0) & (cols < canvas.shape[1])
    np.maximum.at(canvas, (rows[seen], cols[seen]), coverage[seen].astype(np.float32))


def one_region(mask: Mask) -> Mask:
    """Return the largest connected part (sides, not corners) with its holes filled."""
    labels, count = ndimage.label(mask)
    if count > 1:
        mask = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(mask), dtype=np.bool_)


def vignette(shape: tuple[int, int], strength: float, power: float = 3.0) -> Field:
    """Return a brightness of 1 in the middle and ``1 - strength`` in the corners."""
    rows, cols = pixel_grid(shape)
    down = (rows - (shape[0] - 1) / 2) / (shape[0] / 2)
    right = (cols - (shape[1] - 1) / 2) / (shape[1] / 2)
    return np.asarray(1 - strength * (np.hypot(down, right) / math.sqrt(2)) ** power)


def photographed(
    rng: np.random.Generator, scene: Field, blur: float, noise: float
) -> NDArray[np.uint8]:
    """Turn an (H, W, 3) scene of 0 to 1 into a uint8 photograph.

    `blur` is the lens blur in pixels and `noise` the grain, a fraction of full scale.
    """
    photo = ndimage.gaussian_filter(scene, (blur, blur, 0))
    grain = rng.standard_normal(scene.shape, dtype=np.float32)
    # Demosaicing and compression leave camera grain a little smeared
    grain = 2 * ndimage.gaussian_filter(grain, (0.6, 0.6, 0))
    photo += noise * grain * (0.5 + np.sqrt(np.clip(photo, 0, 1)))
    return np.asarray(np.rint(255 * np.clip(photo, 0, 1)), dtype=np.uint8)
