"""What every model to compare has to offer, and what they share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from napari_kdsam.core.geometry import Box, Mask
from napari_kdsam.model.onnx import read_onnx_graph

BOX, CLICK = 'box', 'click'


@dataclass(frozen=True)
class SegmentedMask:
    """What a model says to a prompt.

    Attributes
    ----------
    mask : numpy.ndarray
        (H, W) bool.
    predicted_iou : float or None
        What the model itself expects of the mask, where it says so.
    previous : object
        To hand in with the next click.
    """

    mask: Mask
    predicted_iou: float | None = None
    previous: Any = None


class Segmenter(Protocol):
    """A model that turns an image and prompts into a mask.

    Attributes
    ----------
    name : str
        For tables and file names.
    parameters : int or None
        Number of weights; None where the file does not say.
    prompts : frozenset of str
        What it understands, of ``box`` and ``click``.
    fingerprint : str
        Equal only for equal weights and precision.
    """

    name: str
    parameters: int | None
    prompts: frozenset[str]
    fingerprint: str

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """Do what is done once per image: (H, W, 3) uint8 RGB to an opaque state."""

    def segment(
        self,
        state: Any,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: Box | None,
        previous: Any,
    ) -> SegmentedMask:
        """Answer one prompt.

        Parameters
        ----------
        state : object
            From `embed`.
        points : sequence of (row, column)
            Every click so far, in image pixels, pixel centres at integers.
        labels : sequence of int
            1 (inside) or 0 (outside) for each.
        box : (row0, col0, row1, col1) or None
            Half-open, in image pixels.
        previous : object
            `SegmentedMask.previous` of the click before; None at first.
        """

    def sync(self) -> None:
        """Wait until the device has finished, so that a clock tells the truth."""


def digest_of(*paths: Path) -> str:
    """Digest of the contents of files, in order."""
    total = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open('rb') as file:
            total.update(hashlib.file_digest(file, 'sha256').digest())
    return total.hexdigest()


def wait_for(device: torch.device) -> None:
    """Wait for a CUDA device; others compute as they are called."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def onnx_parameters(*paths: Path) -> int | None:
    """Count the weights of ONNX files; None without the package ``onnx``.

    Raises
    ------
    CheckpointError
        If one is not a readable ONNX model.
    """
    try:
        import onnx
    except ImportError:
        return None
    total = 0
    for path in paths:
        for item in read_onnx_graph(path).initializer:
            # A folded four-dimensional constant is an upscaled position table.
            folded = item.name.startswith('/') and len(item.dims) == 4
            if item.data_type == onnx.TensorProto.FLOAT and not folded:
                total += int(np.prod(item.dims))
    return total
