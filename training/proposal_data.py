"""What the proposal head learns from: embeddings of a frozen encoder, kept on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from napari_kdsam.errors import ImageError, KDSAMError
from napari_kdsam.inference.geometry import Frame, box_of_mask
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.model.sizes import PROMPT_FRAME
from napari_kdsam.model.student import EMBEDDING_CHANNELS, EMBEDDING_SIZE
from napari_kdsam.training.data.dataset import RAW
from napari_kdsam.training.data.samples import Mask, Pixels, Sample

ViewName = Literal['plain', 'mirrored', 'beside']
PixelBox = tuple[int, int, int, int]
_SHAPE = (EMBEDDING_CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE)
_ARRAY, _INDEX = 'embeddings.npy', 'embeddings.json'
# Smaller parts of a mask are specks of the drawing, not objects of their own.
_LEAST_OF_LARGEST = 0.1
# A strip beside the target must show something to be an image of its own.
_LEAST_SHARE, _LEAST_SIDE = 0.2, 64
_WRITE_EVERY = 50


class EmbeddingStoreError(KDSAMError):
    """Kept embeddings that cannot be used."""


class Entry(TypedDict):
    """One kept view: its image, which view it is, and its boxes.

    ``boxes`` are (row0, col0, row1, col1) as shares of the padded square's side.
    """

    name: str
    data_set: str
    view: ViewName
    boxes: list[list[float]]


@dataclass(frozen=True)
class View:
    """One image made of a sample, with the boxes of its objects.

    Attributes
    ----------
    name : str
        ``plain``, ``mirrored`` (left and right), or ``beside`` (a part without target).
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    boxes : list of tuple of int
        Half-open (row0, col0, row1, col1) in pixels of `image`; empty for ``beside``.
    """

    name: ViewName
    image: Pixels
    boxes: list[PixelBox]


def object_boxes(mask: Mask) -> list[PixelBox]:
    """Boxes of the objects in a mask, the largest first.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) bool.

    Returns
    -------
    list of tuple of int
        Half-open (row0, col0, row1, col1) of each connected part that has at least a
        tenth of the pixels of the largest.
    """
    from skimage.measure import label, regionprops

    parts = sorted(regionprops(label(mask)), key=lambda part: -part.area)
    large = [p for p in parts if p.area >= _LEAST_OF_LARGEST * parts[0].area]
    return [
        (int(r0), int(c0), int(r1), int(c1))
        for r0, c0, r1, c1 in (p.bbox for p in large)
    ]


def part_beside(image: Pixels, mask: Mask) -> Pixels | None:
    """Cut out the largest strip of an image that shows none of its mask.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.
    mask : numpy.ndarray
        (H, W) bool.

    Returns
    -------
    numpy.ndarray or None
        (h, w, 3) uint8; None where the target leaves no strip worth looking at.
    """
    box = box_of_mask(mask)
    if box is None:
        return image
    row0, col0, row1, col1 = box
    strips = (image[:row0], image[row1:], image[:, :col0], image[:, col1:])
    strip = max(strips, key=lambda part: part.shape[0] * part.shape[1])
    height, width = strip.shape[:2]
    share = height * width / mask.size
    return (
        strip if share >= _LEAST_SHARE and min(height, width) >= _LEAST_SIDE else None
    )


def views_of(sample: Sample, *, beside: bool, mirrored: bool = True) -> list[View]:
    """Make the views of one sample.

    Parameters
    ----------
    sample : Sample
        Read here.
    beside : bool
        Whether to add the part without target, where there is one.
    mirrored : bool
        Whether to add the mirrored image.

    Returns
    -------
    list of View

    Raises
    ------
    ImageError
        If the sample cannot be read.
    """
    image, mask = sample.load()
    views = [View('plain', image, object_boxes(mask))]
    if mirrored:
        views.append(View('mirrored', image[:, ::-1], object_boxes(mask[:, ::-1])))
    strip = part_beside(image, mask) if beside else None
    if strip is not None:
        views.append(View('beside', strip, []))
    return views


def square_boxes(
    boxes: Sequence[PixelBox], image_shape: tuple[int, int]
) -> list[list[float]]:
    """Convert image boxes to shares of the padded square's side, rows first."""
    frame = Frame(image_shape, PROMPT_FRAME)
    found = []
    for box in boxes:
        x0, y0, x1, y1 = (frame.box_to_frame(box) / PROMPT_FRAME).tolist()
        found.append([y0, x0, y1, x1])
    return found


class EmbeddingStore:
    """Embeddings of views in one memory-mapped file, with an index beside it.

    Parameters
    ----------
    folder : pathlib.Path
        Gets ``embeddings.npy``, (N, 256, 64, 64) float16, and ``embeddings.json``.
    encoder : str
        Digest of the encoder that makes them; others' embeddings are refused.
    """

    def __init__(self, folder: Path, encoder: str) -> None:
        self.folder = folder
        self.encoder = encoder
        self.entries: list[Entry] = []
        self.array: NDArray[np.float16] = np.empty((0, *_SHAPE), np.float16)
        self._read: set[str] = set()

    def fill(
        self, predictor: Predictor, samples: Sequence[Sample], beside_share: float
    ) -> None:
        """Embed the views of samples; what an earlier call embedded is kept.

        Parameters
        ----------
        predictor : Predictor
            With the encoder of this store.
        samples : sequence of Sample
            In an order that is the same each time.
        beside_share : float
            0..1: share of the samples of which a part without target is embedded too.

        Raises
        ------
        EmbeddingStoreError
            If the folder holds embeddings of another encoder, or an embedding does
            not fit float16.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open(3 * len(samples))
        with tqdm(samples, unit='image', desc='Embedding', mininterval=5) as bar:
            for number, sample in enumerate(bar):
                if sample.name in self._read:
                    continue
                beside = int(number * beside_share) < int((number + 1) * beside_share)
                try:
                    views = views_of(sample, beside=beside)
                except ImageError as error:
                    tqdm.write(f'Skipped: {error}')
                    views = []
                for view in views:
                    self._add(predictor, sample, view)
                self._read.add(sample.name)
                if len(self._read) % _WRITE_EVERY == 0:
                    self._write_index()
        self._write_index()

    def _open(self, rows: int) -> None:
        path, index = self.folder / _ARRAY, self.folder / _INDEX
        if path.is_file() and index.is_file():
            content = json.loads(index.read_text(encoding='utf-8'))
            if content['encoder'] != self.encoder:
                raise EmbeddingStoreError(
                    f'{self.folder} holds embeddings of another encoder; delete it or '
                    'give the run another name.'
                )
            self.array = np.lib.format.open_memmap(path, mode='r+')
            self.entries, self._read = content['entries'], set(content['read'])
            if len(self.array) >= rows:
                return
            raise EmbeddingStoreError(
                f'{self.folder} was begun with fewer images; delete it or give the run '
                'another name.'
            )
        self.array = np.lib.format.open_memmap(
            path, mode='w+', dtype=np.float16, shape=(rows, *_SHAPE)
        )

    def _add(self, predictor: Predictor, sample: Sample, view: View) -> None:
        embedding = predictor.embed(view.image, RAW)
        features = embedding.features[0].cpu().numpy().astype(np.float16)
        if not np.isfinite(features).all():
            raise EmbeddingStoreError(
                f'The embedding of {sample.name} does not fit float16; the encoder '
                'may be damaged.'
            )
        self.array[len(self.entries)] = features
        self.entries.append(
            Entry(
                name=sample.name,
                data_set=sample.data_set,
                view=view.name,
                boxes=square_boxes(view.boxes, embedding.image_shape),
            )
        )

    def _write_index(self) -> None:
        if isinstance(self.array, np.memmap):
            self.array.flush()
        part = self.folder / f'.{_INDEX}.part'
        content = {
            'encoder': self.encoder,
            'read': sorted(self._read),
            'entries': self.entries,
        }
        part.write_text(json.dumps(content), encoding='utf-8')
        os.replace(part, self.folder / _INDEX)

    def batch(
        self, rows: Sequence[int]
    ) -> tuple[NDArray[np.float16], list[list[list[float]]]]:
        """Embeddings (B, 256, 64, 64) float16 and boxes of some entries."""
        return self.array[list(rows)], [self.entries[row]['boxes'] for row in rows]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)
