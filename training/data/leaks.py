"""Images that are in two splits: by name, by patient or by looks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from tqdm import tqdm

from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
from napari_kdsam.training.data.samples import Sample

MAX_DISTANCE = 10
# Ultrasound images resemble each other at low frequencies; this tells copies apart.
MIN_CORRELATION = 0.98
_THUMBNAIL, _LOW = 32, 8
# Bits set in each byte; NumPy counts them itself only from version 2 on.
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
_PROGRESS_FROM = 500


class LeakError(KDSAMError):
    """The same image or patient is in two splits."""


@dataclass(frozen=True)
class Leak:
    """Two samples that should not be in different splits.

    Attributes
    ----------
    train, val : Sample
        The two.
    reason : str
        ``same name``, ``same patient`` or ``near-duplicate``.
    """

    train: Sample
    val: Sample
    reason: str

    def describe(self) -> str:
        """One line for a log."""
        return f'{self.train.name} ({self.reason} of {self.val.name})'


def find_leaks(
    train: Sequence[Sample],
    val: Sequence[Sample],
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> list[Leak]:
    """Find samples that are in both lists.

    Near-duplicates are found by the perceptual hash of 64 bits (signs of the low
    frequencies of the cosine transform) and confirmed by the correlation of the
    thumbnails. Images that cannot be read are left to those that read them later.

    Parameters
    ----------
    train, val : sequence of Sample
        Two splits.
    max_distance : int
        Most bits in which the hashes of near-duplicates differ.
    min_correlation : float
        Least correlation of their 32 x 32 grey thumbnails.

    Returns
    -------
    list of Leak
        At most one for each sample of `train`, in its order.
    """
    by_name = {(s.data_set, s.stem): s for s in val}
    by_patient = {(s.data_set, s.patient): s for s in val if s.patient}
    looks, gallery = _looks(train), _Gallery(_looks(val))
    found = []
    for sample, look in zip(train, looks, strict=True):
        name = by_name.get((sample.data_set, sample.stem))
        patient = by_patient.get((sample.data_set, sample.patient))
        if name is not None:
            found.append(Leak(sample, name, 'same name'))
        elif patient is not None and sample.patient:
            found.append(Leak(sample, patient, 'same patient'))
        elif look is not None:
            twin = gallery.nearest(look, max_distance, min_correlation)
            if twin is not None:
                found.append(Leak(sample, val[twin], 'near-duplicate'))
    return found


def check_no_leaks(train: Sequence[Sample], val: Sequence[Sample]) -> None:
    """Refuse splits that share an image or a patient.

    Raises
    ------
    LeakError
        Naming the first of them.
    """
    leaks = find_leaks(train, val)
    if leaks:
        text = first_of([leak.describe() for leak in leaks])
        raise LeakError(
            f'Training images are in the validation split too: {text}; move them, or '
            'set data.drop_leaks.'
        )


def drop_leaks(
    train: Sequence[Sample], val: Sequence[Sample]
) -> tuple[list[Sample], list[Leak]]:
    """Leave out the training samples that are in the validation split too.

    Returns
    -------
    kept : list of Sample
        In their order.
    dropped : list of Leak
        The others, with what they are like.
    """
    leaks = find_leaks(train, val)
    gone = {id(leak.train) for leak in leaks}
    return [sample for sample in train if id(sample) not in gone], leaks


@dataclass(frozen=True, eq=False)
class _Look:
    bits: NDArray[np.uint8]
    thumbnail: NDArray[np.float64]


def _looks(samples: Sequence[Sample]) -> list[_Look | None]:
    quiet = len(samples) < _PROGRESS_FROM
    with ThreadPoolExecutor() as pool:
        looks = pool.map(_look, samples)
        total = len(samples)
        return list(tqdm(looks, 'comparing images', total, unit='image', disable=quiet))


def _look(sample: Sample) -> _Look | None:
    try:
        image, _ = sample.load()
    except ImageError:
        return None
    size = (_THUMBNAIL, _THUMBNAIL)
    grey = Image.fromarray(image).convert('L').resize(size, Image.Resampling.BOX)
    pixels = np.asarray(grey, np.float64)
    low = dctn(pixels, norm='ortho')[:_LOW, :_LOW].ravel()
    bits = np.packbits(low > np.median(low[1:]))
    centred = pixels - pixels.mean()
    return _Look(bits, centred / max(float(np.linalg.norm(centred)), 1e-9))


class _Gallery:
    """Many looks as arrays, so that one is compared with all at once."""

    def __init__(self, looks: Sequence[_Look | None]) -> None:
        self.places = [index for index, look in enumerate(looks) if look is not None]
        there = [look for look in looks if look is not None]
        self.bits = np.array([look.bits for look in there], np.uint8)
        self.thumbnails = np.array([look.thumbnail for look in there])

    def nearest(
        self, look: _Look, max_distance: int, min_correlation: float
    ) -> int | None:
        if not self.places:
            return None
        distances = _ONES[self.bits ^ look.bits].sum(axis=1)
        near = np.flatnonzero(distances <= max_distance)
        if not near.size:
            return None
        correlations = np.tensordot(self.thumbnails[near], look.thumbnail, 2)
        best = int(correlations.argmax())
        if correlations[best] < min_correlation:
            return None
        return self.places[int(near[best])]
