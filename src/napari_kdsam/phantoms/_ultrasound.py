"""A drawn abdominal ultrasound: a dark lesion under layered tissue, still or cine.

Tissue lives on a polar grid of shape (depth samples, beams). Random scatterers, scaled
by how strongly each tissue echoes, are blurred by the beam as a complex field; the
magnitude of that field is speckle (Rayleigh), which is then log-compressed and
scan-converted to the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_kdsam.core.geometry import Mask
from napari_kdsam.phantoms._drawing import (
    Blob,
    Field,
    add_stroke,
    checked_shape,
    curve,
    one_region,
    pixel_grid,
    random_blob,
    smooth_noise,
    smooth_step,
)
from napari_kdsam.phantoms._phantom import Phantom

DYNAMIC_RANGE = 54.0
FRAMES_A_BREATH = 30
BAND_LIMIT = 0.7
Complex = NDArray[np.complex64]


def ultrasound_phantom(
    seed: int = 0, shape: tuple[int, int] = (500, 640), frames: int | None = None
) -> Phantom:
    """Draw an ultrasound phantom: a dark lesion in a curved sector, not a patient.

    Skin, fat, muscle, fascia and a vessel-bearing organ are drawn as echo strengths;
    speckle, attenuation (bright enhancement or a shadow behind the lesion), beam
    width, near-field haze and noise follow. Depth ticks and a grey bar are burnt in.

    Parameters
    ----------
    seed : int
        Same seed, shape and number of frames, same phantom.
    shape : tuple of int
        (height, width) in pixels, 64 or more each.
    frames : int, optional
        Length of a cine in which the organ slides with breathing and the lesion
        changes shape slowly; its frame 0 is the still image. None draws a still.

    Returns
    -------
    Phantom
        Grey image, uint8, and lesion mask, bool: both (H, W), or (frames, H, W).

    Raises
    ------
    ValueError
        If a side of `shape` is under 64 pixels, or `frames` under 1.
    """
    shape = checked_shape(shape)
    if frames is not None and frames < 1:
        raise ValueError(f'A cine needs at least 1 frame, not {frames}.')
    rng = np.random.default_rng(seed)
    body = _draw_body(rng, _Sector.fitted(rng, shape))
    images, masks = [], []
    for index in range(frames or 1):
        breath = 2 * math.pi * index / FRAMES_A_BREATH
        image, mask = _scan(rng, body, breath)
        images.append(image)
        masks.append(mask)
    return Phantom(
        name=f'ultrasound phantom {seed}',
        image=images[0] if frames is None else np.stack(images),
        mask=masks[0] if frames is None else np.stack(masks),
        description='Drawn phantom of a dark lesion in an organ seen by ultrasound.',
    )


@dataclass(frozen=True)
class _Sector:
    """Where the curved probe's beams fall in the image; lengths in pixels.

    `row` and `col` are the beams' common origin, `near` and `far` the distances from
    it at which they start and end, `half_angle` the outermost beam in radians.
    """

    shape: tuple[int, int]
    row: float
    col: float
    near: float
    far: float
    half_angle: float

    @classmethod
    def fitted(cls, rng: np.random.Generator, shape: tuple[int, int]) -> _Sector:
        half_angle = math.radians(float(rng.uniform(25, 31)))
        # A tall narrow image would leave a wide sector very small
        half_angle *= min(1.0, max(0.5, shape[1] / shape[0]))
        near = float(rng.uniform(0.40, 0.55))
        # Depth is 1 here; the sector keeps clear of the grey bar and the ticks
        width = 2 * (near + 1) * math.sin(half_angle)
        height = near + 1 - near * math.cos(half_angle)
        scale = min(0.90 * shape[1] / width, 0.95 * shape[0] / height)
        top = 0.5 * (shape[0] - scale * height)
        return cls(
            shape=shape,
            row=top - scale * near * math.cos(half_angle),
            col=0.5 * (shape[1] - 1),
            near=scale * near,
            far=scale * (near + 1),
            half_angle=half_angle,
        )

    @property
    def depth(self) -> float:
        return self.far - self.near

    @property
    def fineness(self) -> float:
        """Extra fineness of the grid: a small image is a large one reduced."""
        return max(1.0, 320 / self.depth)

    @property
    def grid(self) -> tuple[int, int]:
        """Depth samples and beams: fine near the pixel size at full depth."""
        beams = 2 * self.half_angle * self.far / 1.5
        return int(1.25 * self.depth * self.fineness), int(beams * self.fineness)

    def polar(self, rows: Field, cols: Field) -> list[Field]:
        """Return the (fractional) depth sample and beam at places in the image."""
        down, right = rows - self.row, cols - self.col
        samples, beams = self.grid
        depth = (np.hypot(down, right) - self.near) / self.depth * (samples - 1)
        beam = (np.arctan2(right, down) / self.half_angle + 1) / 2 * (beams - 1)
        return [np.asarray(depth, np.float32), np.asarray(beam, np.float32)]

    def places(self) -> tuple[Field, Field]:
        """Return the image row and column of every sample of the polar grid."""
        samples, beams = self.grid
        reach = np.linspace(self.near, self.far, samples, dtype=np.float32)[:, None]
        angle = np.linspace(-1, 1, beams, dtype=np.float32) * self.half_angle
        rows = self.row + reach * np.cos(angle)
        cols = self.col + reach * np.sin(angle)
        return np.asarray(rows, np.float32), np.asarray(cols, np.float32)


@dataclass(frozen=True, eq=False)
class _Body:
    """What is scanned; every field is on the polar grid, echoes and gain in dB."""

    sector: _Sector
    lesion: Blob
    echo: Field
    lesion_echo: Field
    through: float
    scatter: Complex
    interface: Complex
    gain: Field
    slide: tuple[float, float]


def _draw_body(rng: np.random.Generator, sector: _Sector) -> _Body:
    depth = sector.depth
    reach = sector.near + depth * float(rng.uniform(0.46, 0.58))
    angle = sector.half_angle * float(rng.uniform(-0.38, 0.38))
    centre = (
        sector.row + reach * math.cos(angle),
        sector.col + reach * math.sin(angle),
    )
    radius = depth * float(rng.uniform(0.10, 0.15))
    radius *= min(1.0, sector.half_angle / math.radians(25))
    lesion = random_blob(rng, centre, radius, 0.13, 12, 1.6)
    # Most lesions lie wider than deep
    lesion = replace(lesion, angle=float(rng.normal(0, 0.45)))
    grid = sector.grid
    margin = lesion.margin(*sector.places()) / radius
    echo, interface = _tissue(rng, grid, margin)
    scatter = rng.standard_normal((*grid, 2), dtype=np.float32).view(np.complex64)
    enhances = rng.random() < 0.6
    return _Body(
        sector=sector,
        lesion=lesion,
        echo=echo,
        lesion_echo=float(rng.uniform(-19, -14))
        + 1.6 * smooth_noise(rng, grid, 0.03 * grid[0]),
        through=float(rng.uniform(6, 9)) * (1 if enhances else -1.2),
        scatter=_beam_blur(scatter[..., 0], BAND_LIMIT, BAND_LIMIT),
        interface=interface,
        gain=_gain(rng, grid),
        slide=(
            depth * float(rng.uniform(0.02, 0.03)),
            depth * float(rng.uniform(0.03, 0.045)) * (1 if rng.random() < 0.5 else -1),
        ),
    )


def _depths(grid: tuple[int, int]) -> Field:
    return np.linspace(0, 1, grid[0], dtype=np.float32)[:, None]


def _tissue(
    rng: np.random.Generator, grid: tuple[int, int], margin: Field
) -> tuple[Field, Complex]:
    """Return the echo strength in dB and the mirror-like echoes of the fasciae."""
    depth = _depths(grid)
    beams = np.arange(grid[1], dtype=np.float32)[None, :]
    tops = []
    for place in (0.022, rng.uniform(0.07, 0.11), rng.uniform(0.15, 0.2)):
        bend = 0.004 * smooth_noise(rng, (1, grid[1]), 0.12 * grid[1])
        tops.append(place * (1 + 0.1 * (beams / grid[1] - 0.5)) + bend * place / 0.1)
    skin, fat, muscle = tops
    soft = 0.004
    echo = 1.7 * smooth_noise(rng, grid, 0.12 * grid[1], 0.08 * grid[0])
    echo += 1.3 * smooth_noise(rng, grid, 0.022 * grid[1], 0.014 * grid[0])
    bright = smooth_noise(rng, grid, 3.0, 1.1)
    echo += 7 * smooth_step(bright, 2.2, 3.6)
    echo += _vessel_echo(rng, grid, margin)
    fibres = smooth_noise(rng, grid, 0.06 * grid[1], 0.0035 * grid[0], 0.06)
    septa = smooth_noise(rng, grid, 0.05 * grid[1], 0.005 * grid[0], -0.12)
    layers = [
        (muscle, -5 + 4.5 * fibres),
        (fat, -8 + 3.5 * np.abs(septa) + 9 * smooth_step(septa, 1.3, 2.4)),
        (skin, np.full(grid, 5.0, np.float32)),
    ]
    for bottom, strength in layers:
        above = smooth_step((bottom - depth) / soft, -1, 1)
        echo += above * (strength - echo)
    lines = np.zeros(grid, np.complex64)
    tilt = (beams / grid[1] - np.float32(rng.uniform())) ** 2
    deep = float(rng.uniform(0.88, 0.95)) + np.float32(0.12) * tilt
    echo -= 4 * smooth_step(depth - deep, 0, 0.02)
    for line, ratio in ((skin, 3.0), (fat, 6.5), (muscle, 6.0), (deep, 6.0)):
        phase = 2.5 * smooth_noise(rng, (1, grid[1]), 0.02 * grid[1])
        waning = np.clip(0.7 + 0.45 * smooth_noise(rng, (1, grid[1]), 14), 0.1, None)
        ridge = np.exp(-(((depth - line) / 0.0045) ** 2))
        lines += (ratio * waning * ridge * np.exp(1j * phase)).astype(np.complex64)
    return np.asarray(echo, np.float32), lines


def _vessel_echo(
    rng: np.random.Generator, grid: tuple[int, int], margin: Field
) -> Field:
    """Return the dB change at the organ's vessels: dark inside, some brightly lined."""
    size = np.array(grid, dtype=np.float64)
    inside, lining = np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    for _ in range(int(rng.integers(6, 10))):
        at = rng.uniform((0.26, -0.05), (0.9, 1.05))
        heading = float(rng.uniform(0, 2 * math.pi))
        half = float(rng.uniform(0.009, 0.019)) * grid[0]
        lined = rng.random() < 0.5
        # One piece is a vessel cut across, more are one cut lengthwise
        for _ in range(int(rng.choice((1, 1, 2, 3)))):
            path = [at]
            for _ in range(2):
                step = float(rng.uniform(0.01, 0.06))
                heading += float(rng.normal(0, 0.45))
                way = np.array((math.sin(heading), math.cos(heading)))
                path.append(path[-1] + step * way)
            line = curve(np.array(path) * size, step=1.5)
            width = half * np.linspace(1, 0.8, len(line))
            half, at = 0.8 * half, path[-1]
            add_stroke(inside, line, width)
            if lined:
                add_stroke(lining, line, 1.2 * width + 1.0)
    inside = ndimage.gaussian_filter(inside, 1.2)
    clear = smooth_step(margin, -0.18, -0.4)
    lining = np.clip(lining - inside, 0, 1)
    return np.asarray(clear * (6 * lining - 15 * inside), np.float32)


def _gain(rng: np.random.Generator, grid: tuple[int, int]) -> Field:
    """Return the machine's gain in dB: depth, probe contact and sector edges."""
    depth = _depths(grid)
    gain = 1.0 * smooth_noise(rng, (grid[0], 1), 0.08 * grid[0]) - 8 * depth**2.5
    # The probe rings near its face, in a few fading bands
    gain = gain + 7 * np.exp(-depth / 0.02)
    gain = gain + 4 * np.exp(-depth / 0.05) * np.cos(depth * 2 * math.pi / 0.017)
    contact = 0.7 * smooth_noise(rng, (1, grid[1]), 0.05 * grid[1])
    contact += 0.5 * smooth_noise(rng, (1, grid[1]), 0.008 * grid[1])
    across = np.linspace(-1, 1, grid[1], dtype=np.float32)[None, :]
    lifted = float(rng.uniform(-1, 1))
    contact -= 7 * abs(lifted) * smooth_step(across * np.sign(lifted), 0.75, 1.05)
    return np.asarray(gain + contact - 5 * np.abs(across) ** 14, np.float32)


def _beam_blur(field: Complex, axial: float, lateral: float) -> Complex:
    real = ndimage.gaussian_filter(field.real, (axial, lateral), mode='reflect')
    imag = ndimage.gaussian_filter(field.imag, (axial, lateral), mode='reflect')
    return np.asarray(real + 1j * imag, dtype=np.complex64)


def _speckle(echo: Field, scatter: Complex, interface: Complex) -> Complex:
    """Return the received complex field, of mean power 2 where `echo` is 0 dB."""
    field = scatter * 10 ** (echo / 20)
    depth = _depths((echo.shape[0], echo.shape[1]))
    focus = np.exp(-(((depth - 0.45) / 0.3) ** 2))
    total = np.zeros_like(field)
    for weight, axial, lateral in ((focus, 1.4, 1.7), (1 - focus, 1.7, 2.9)):
        blurred = _beam_blur(
            field,
            math.sqrt(axial**2 - BAND_LIMIT**2),
            math.sqrt(lateral**2 - BAND_LIMIT**2),
        )
        total += weight * blurred * math.sqrt(4 * math.pi * axial * lateral)
    return np.asarray(total + interface, np.complex64)


def _scan(
    rng: np.random.Generator, body: _Body, breath: float
) -> tuple[NDArray[np.uint8], Mask]:
    """Scan `body` at a phase of the breath in radians; 0 is the still image."""
    sector = body.sector
    swing = math.sin(breath)
    slide = (body.slide[0] * swing, body.slide[1] * swing)
    lesion = replace(
        body.lesion,
        row=body.lesion.row + slide[0],
        col=body.lesion.col + slide[1],
        radius=body.lesion.radius * (1 + 0.05 * swing),
        phases=body.lesion.phases + 0.3 * swing,
    )
    rows, cols = sector.places()
    # The organ slides under a belly wall that stays put
    follows = smooth_step(_depths(sector.grid), 0.2, 0.3)
    source = sector.polar(rows - follows * slide[0], cols - follows * slide[1])
    margin = lesion.margin(rows, cols) / lesion.radius
    echo = ndimage.map_coordinates(body.echo, source, order=1, mode='reflect')
    edge = smooth_step(margin, -0.05, 0.05)
    echo += edge * (body.lesion_echo - echo)
    echo += 3.0 * np.exp(-(((margin + 0.07) / 0.06) ** 2))
    scatter = body.scatter
    if breath:
        moved = [
            ndimage.map_coordinates(part, source, order=3, mode='reflect')
            for part in (scatter.real, scatter.imag)
        ]
        scatter = np.asarray(moved[0] + 1j * moved[1], np.complex64)
    received = _speckle(echo, scatter, body.interface)
    gain = body.gain + _transmitted(margin, body.through, lesion.radius / sector.depth)
    received *= 10 ** (gain / 20)
    hiss = rng.standard_normal((*sector.grid, 2), dtype=np.float32).view(np.complex64)
    floor = -34 + 12 * _depths(sector.grid)
    received += _beam_blur(hiss[..., 0], 0.8, 0.5) * 10 ** (floor / 20)
    level = 20 * np.log10(np.abs(received) + 1e-4)
    grey = np.clip((level + 0.53 * DYNAMIC_RANGE) / DYNAMIC_RANGE, 0, 1)
    return _scan_converted(sector, np.asarray(grey, np.float32)), one_region(
        lesion.margin(*pixel_grid(sector.shape)) > 0
    )


def _transmitted(margin: Field, through: float, radius: float) -> Field:
    """Return the dB gained or lost behind the lesion, and the shadows of its sides."""
    samples = margin.shape[0]
    # `through` is reached behind a lesion as thick as its mean diameter
    per_sample = through / (2 * radius * samples)
    path = per_sample * smooth_step(margin, -0.05, 0.05)
    slope_depth, slope_beam = np.gradient(margin)
    steepness = np.hypot(slope_depth, slope_beam) + 1e-6
    grazing = np.abs(slope_beam / steepness) ** 6
    path -= 3.5 / samples / radius * grazing * np.exp(-(((margin + 0.02) / 0.06) ** 2))
    behind = np.cumsum(path, axis=0)
    behind = ndimage.gaussian_filter1d(behind, 1.5, axis=1)
    return np.asarray(behind, np.float32)


def _scan_converted(sector: _Sector, grey: Field) -> NDArray[np.uint8]:
    """Return the uint8 image: the sector on black, with ticks and a grey bar."""
    at = sector.polar(*pixel_grid(sector.shape))
    grey = ndimage.gaussian_filter(grey, 0.5 * (sector.fineness - 1))
    image = ndimage.map_coordinates(grey, at, order=1, mode='constant')
    height, width = sector.shape
    unit = min(sector.shape) / 500
    length, thick = max(2, round(7 * unit)), max(1, round(1.5 * unit))
    surface = sector.row + sector.near
    for number in range(11):
        row = int(surface + sector.depth * number / 10)
        long = length * (2 if number % 5 == 0 else 1)
        image[row : row + thick, width - 2 - long : width - 2] = 0.75
    bar = slice(int(0.06 * height), int(0.34 * height))
    ramp = np.linspace(1, 0, bar.stop - bar.start, dtype=np.float32)
    image[bar, 2 : 2 + length] = ramp[:, None]
    return np.asarray(np.rint(255 * image), dtype=np.uint8)
