"""Images and their objects as tensors, read once and kept where training runs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.intensity import IntensityMapping, to_model_pixels
from napari_kdsam.training.data.samples import ObjectMap, Pixels, Sample
from napari_kdsam.training.randomness import Draws, name_keys

RAW = IntensityMapping(0, 255)
# Activations of a training step need room beside the images.
_LEFT_FREE = 16 * 1024**3
_PROGRESS_FROM = 500


@dataclass(frozen=True, eq=False)
class Squares:
    """Images of a batch as the network sees them, one object of each.

    Attributes
    ----------
    names : list of str
        B names, for messages and logs.
    modalities : list of str
        B of `catalogue.MODALITIES`.
    pixels : torch.Tensor
        (B, 3, S, S) float RGB 0..255, the image at the top left and zeros elsewhere.
    masks : torch.Tensor
        (B, 1, S, S) float 0..1, the share of each pixel that is the object.
    sizes : torch.Tensor
        (B, 2) int64 (height, width) of the image part.
    draws : Draws
        Random numbers of these images.
    places : list of int
        Where they are in the store.
    """

    names: list[str]
    modalities: list[str]
    pixels: torch.Tensor
    masks: torch.Tensor
    sizes: torch.Tensor
    draws: Draws
    places: list[int]


class ImageStore:
    """All images of a training in memory, at the encoder's input size.

    Parameters
    ----------
    samples : sequence of Sample
        What to read; those that cannot be are left out, see `failures`.
    input_size : int
        S, side of the padded squares in pixels.
    workers : int
        Threads that read, at least one.

    Attributes
    ----------
    samples : list of Sample
        Those that could be read.
    failures : dict of str to str
        The reason for each that could not, by name.
    numbers : list of tuple of int
        Class numbers that are in each mask.
    pixels : torch.Tensor
        (N, 3, S, S) uint8.
    objects : torch.Tensor
        (N, S, S) uint8, the class number of the object that has most of a pixel.
    cover : torch.Tensor
        (N, S, S) uint8, how much of the pixel that is, of 255.
    sizes : torch.Tensor
        (N, 2) int64 (height, width) of the image parts.
    """

    def __init__(
        self, samples: Sequence[Sample], input_size: int, workers: int = 1
    ) -> None:
        self.input_size = input_size
        self.failures: dict[str, str] = {}
        side, count = input_size, len(samples)
        try:
            self._make_room(count, side)
        except RuntimeError as error:  # torch has no narrower class for the CPU
            raise ImageError(
                f'{count} images of {side} pixels take {5 * count * side**2 / 2**30:.1f} '
                'GiB, more memory than there is; set data.train_limit.'
            ) from error
        self.samples: list[Sample] = []
        self.numbers: list[tuple[int, ...]] = []
        with ThreadPoolExecutor(max(1, workers)) as pool:
            quiet = count < _PROGRESS_FROM
            results = pool.map(self._read, samples)
            bar = tqdm(
                results, total=count, unit='image', desc='reading', disable=quiet
            )
            for sample, result in zip(samples, bar, strict=True):
                if isinstance(result, str):
                    self.failures[sample.name] = result
                else:
                    self._keep(sample, *result)
        for name in ('pixels', 'objects', 'cover', 'sizes'):
            setattr(self, name, getattr(self, name)[: len(self.samples)])
        self.keys = torch.from_numpy(name_keys([s.name for s in self.samples]))

    def _make_room(self, count: int, side: int) -> None:
        self.pixels = torch.zeros(count, 3, side, side, dtype=torch.uint8)
        self.objects = torch.zeros(count, side, side, dtype=torch.uint8)
        self.cover = torch.zeros(count, side, side, dtype=torch.uint8)
        self.sizes = torch.zeros(count, 2, dtype=torch.int64)

    def _read(self, sample: Sample) -> tuple[Pixels, ObjectMap, ObjectMap] | str:
        try:
            image, objects = sample.load_objects()
        except ImageError as error:
            return str(error)
        shape = PaddedSquare(
            (image.shape[0], image.shape[1]), self.input_size
        ).scaled_shape
        pixels = to_model_pixels(image, RAW, self.input_size)
        scaled, cover = scaled_objects(objects, shape)
        if not scaled.any():
            return f'{sample.name}: nothing is left of the mask at {self.input_size} pixels.'
        return pixels, scaled, cover

    def _keep(
        self, sample: Sample, pixels: Pixels, objects: ObjectMap, cover: ObjectMap
    ) -> None:
        place, (rows, columns) = len(self.samples), objects.shape
        self.pixels[place, :, :rows, :columns] = torch.from_numpy(
            pixels.transpose(2, 0, 1).copy()
        )
        self.objects[place, :rows, :columns] = torch.from_numpy(objects)
        self.cover[place, :rows, :columns] = torch.from_numpy(cover)
        self.sizes[place] = torch.tensor([rows, columns])
        self.samples.append(sample)
        self.numbers.append(tuple(int(n) for n in np.unique(objects) if n))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        held = (self.pixels, self.objects, self.cover)
        return sum(tensor.numel() for tensor in held)

    def place_on(self, device: torch.device) -> None:
        """Move everything to a GPU's memory, or to pinned memory if that is too small."""
        # A second stage finds them there, beside what else fills that memory.
        if device.type != 'cuda' or self.pixels.is_cuda:
            return
        free, _ = torch.cuda.mem_get_info(device)
        fits = self.nbytes + _LEFT_FREE < free
        for name in ('pixels', 'objects', 'cover', 'sizes'):
            tensor = getattr(self, name)
            setattr(self, name, tensor.to(device) if fits else tensor.pin_memory())

    def squares(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images by their places.

        Parameters
        ----------
        indices : torch.Tensor
            (B,) int64.

        Returns
        -------
        pixels : torch.Tensor
            (B, 3, S, S) uint8, where the store is.
        sizes : torch.Tensor
            (B, 2) int64, there too.
        """
        index = indices.to(self.pixels.device, non_blocking=True)
        return self.pixels[index], self.sizes[index]

    def batch(
        self,
        places: Sequence[int],
        numbers: Sequence[int] | None,
        seed: int,
        step: int,
        device: torch.device,
    ) -> Squares:
        """Gather a batch.

        Parameters
        ----------
        places : sequence of int
            B places in the store.
        numbers : sequence of int or None
            The object of each; None draws one of those that are there.
        seed, step : int
            Of the random numbers.
        device : torch.device
            Where the batch is wanted.
        """
        draws = Draws(seed, step, self.keys[list(places)], device)
        if numbers is None:
            chance = draws.on_host('object')
            own = [self.numbers[place] for place in places]
            numbers = [n[int(c * len(n))] for n, c in zip(own, chance, strict=True)]
        index = torch.tensor(list(places), dtype=torch.int64)
        index = index.to(self.pixels.device, non_blocking=True)
        pixels, objects, cover, sizes = (
            tensor[index].to(device, non_blocking=True)
            for tensor in (self.pixels, self.objects, self.cover, self.sizes)
        )
        cover = cover.float() / 255
        wanted = torch.tensor(list(numbers), dtype=torch.uint8)
        wanted = wanted.to(device, non_blocking=True)
        masks = torch.where(objects == wanted[:, None, None], cover, 0.0)[:, None]
        samples = [self.samples[place] for place in places]
        names = [s.name for s in samples]
        modalities = [s.modality for s in samples]
        return Squares(
            names, modalities, pixels.float(), masks, sizes, draws, list(places)
        )


def scaled_objects(
    objects: ObjectMap, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scale a map of class numbers without mixing the numbers.

    Parameters
    ----------
    objects : numpy.ndarray
        (H, W) uint8.
    shape : tuple of int
        (rows, columns) wanted.

    Returns
    -------
    objects : numpy.ndarray
        (rows, columns) uint8, the number that has most of each pixel, 0 for none.
    cover : numpy.ndarray
        (rows, columns) uint8, how much of the pixel that is, of 255.
    """
    found = np.zeros(shape, np.uint8)
    cover = np.zeros(shape, np.uint8)
    for number in np.unique(objects[objects > 0]):
        opaque = Image.fromarray((objects == number).astype(np.uint8) * 255)
        size = (shape[1], shape[0])
        own = np.asarray(opaque.resize(size, Image.Resampling.BILINEAR))
        more = own > cover
        found[more], cover[more] = number, own[more]
    return found, cover
