"""Teachers: models whose image embeddings the student learns to reproduce."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_kdsam.errors import CheckpointError
from napari_kdsam.inference.geometry import Frame
from napari_kdsam.inference.intensity import (
    IntensityMapping,
    check_image,
    to_model_pixels,
)
from napari_kdsam.model.device import resolve_device
from napari_kdsam.model.loading import load_model
from napari_kdsam.model.network import (
    ModelIdentity,
    PromptableModel,
)
from napari_kdsam.model.official import DECODER_FILE, OnnxEncoder
from napari_kdsam.model.registry import list_models
from napari_kdsam.model.sizes import PROMPT_FRAME
from napari_kdsam.model.student import EMBEDDING_CHANNELS, EMBEDDING_SIZE

_DIGITS = 16


class _NoDecoder(nn.Module):
    """Stands where an ONNX encoder has no decoder beside it."""

    def __init__(self) -> None:
        super().__init__()
        # `PromptableModel` asks its decoder's parameters where it runs.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)


class Teacher:
    """A frozen image encoder, with SAM's decoder where there is one.

    Parameters
    ----------
    model : PromptableModel
        Prepared for inference.
    name : str
        For messages, logs and checkpoints.
    key : str
        Equal for two teachers, on any machine, only if their embeddings agree.

    Attributes
    ----------
    input_size : int
        Side of the encoder's square input in pixels: 1024 for SAM and MobileSAM.
    """

    def __init__(self, model: PromptableModel, name: str, key: str) -> None:
        self.model = model
        self.name = name
        self.key = key
        self.input_size = model.input_size

    @property
    def device(self) -> torch.device:
        """Where embeddings are computed and returned."""
        return self.model.device

    def scaled_shape(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """(rows, columns) of an image in the input; equal ones share a batch."""
        return Frame((image.shape[0], image.shape[1]), self.input_size).scaled_shape

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Embed images as `napari_kdsam.inference.Predictor` does.

        Images of the same scaled shape go through the encoder together, so memory
        grows with the number of images given.

        Parameters
        ----------
        images : sequence of numpy.ndarray
            B arrays (H, W, 3) uint8 RGB, of any sizes.

        Returns
        -------
        torch.Tensor
            (B, 256, 64, 64) float32 on `device`, in the order of `images`.

        Raises
        ------
        ImageError
            If an array is not an image.
        """
        groups: dict[tuple[int, int], list[tuple[int, torch.Tensor]]] = {}
        for index, image in enumerate(images):
            array = check_image(image)
            mapping = IntensityMapping().resolve(array)
            pixels = to_model_pixels(array, mapping, self.input_size)
            tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
            shape = (tensor.shape[1], tensor.shape[2])
            groups.setdefault(shape, []).append((index, tensor))
        embeddings = torch.empty(
            len(images),
            EMBEDDING_CHANNELS,
            EMBEDDING_SIZE,
            EMBEDDING_SIZE,
            device=self.device,
        )
        # Not inference_mode: autograd refuses such tensors as targets of a loss.
        with torch.no_grad():
            for group in groups.values():
                batch = torch.stack([tensor for _, tensor in group])
                embeddings[[index for index, _ in group]] = self.model.encode(batch)
        return embeddings

    @property
    def has_decoder(self) -> bool:
        """Whether `decoder` has one to return."""
        return not isinstance(self.model.mask_decoder, _NoDecoder)

    def decoder(self) -> tuple[Any, Any]:
        """Return the decoder, for distillation with prompts in the loop.

        Returns
        -------
        prompt_encoder, mask_decoder : torch.nn.Module
            segment_anything's, frozen, in evaluation mode, on `device`; gradients
            pass through them to the embedding.

        Raises
        ------
        CheckpointError
            If the teacher is an ONNX encoder without a decoder beside it.
        """
        if not self.has_decoder:
            raise CheckpointError(
                f"The teacher {self.name} has no mask decoder: put SAM's, "
                f'{DECODER_FILE}, beside its ONNX file.'
            )
        return self.model.prompt_encoder, self.model.mask_decoder


def open_teacher(
    path_or_name: str | os.PathLike[str],
    device: str = 'auto',
    dtype: torch.dtype | None = None,
) -> Teacher:
    """Load a teacher.

    Parameters
    ----------
    path_or_name : str or path-like
        One of Meta's ``sam_vit_*.pth`` files, a SAM-compatible ONNX image encoder
        (SAM's decoder beside it is optional), a KD SAM checkpoint, or a name from
        ``napari-kdsam models``.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. ONNX encoders run on
        CUDA through ONNX Runtime where it can, else on the CPU.
    dtype : torch.dtype, optional
        Precision of the encoder; float32 by default, so that a cache filled on one
        machine serves another. Any other precision becomes part of the key.

    Returns
    -------
    Teacher

    Raises
    ------
    ModelNotFoundError
        If the name is unknown or its file is not on this computer.
    CheckpointError
        If the file cannot be used.
    DeviceError
        If the device is not available.
    MissingExtraError
        If the file is ONNX and no ONNX runtime is installed.
    """
    path = _path_of(path_or_name)
    precision = dtype or torch.float32
    bare = path.suffix.lower() == '.onnx' and not path.with_name(DECODER_FILE).is_file()
    if bare and path.is_file():
        model = _open_bare_encoder(path, resolve_device(device), precision)
    else:
        model = load_model(path_or_name, device, dtype=precision)
    weights = Path(model.identity.path)
    is_onnx = isinstance(model.encoder, OnnxEncoder)
    # An ONNX encoder's embeddings do not depend on the decoder beside it.
    parts = [
        'onnx' if is_onnx else model.identity.architecture,
        weights_digest(weights),
    ]
    if precision != torch.float32 and not is_onnx:
        parts.append(str(precision).removeprefix('torch.'))
    return Teacher(model, model.identity.name, '-'.join(parts))


def _path_of(path_or_name: str | os.PathLike[str]) -> Path:
    for entry in list_models():
        if entry.name == str(path_or_name):
            return entry.path
    return Path(path_or_name).expanduser()


def _open_bare_encoder(
    path: Path, device: torch.device, dtype: torch.dtype
) -> PromptableModel:
    encoder = OnnxEncoder(path)
    encoder.run_on(device)
    identity = ModelIdentity(path.stem, 'onnx', weights_digest(path), str(path))
    model = PromptableModel(
        encoder, nn.Identity(), _NoDecoder(), PROMPT_FRAME, identity
    )
    return model.prepare(device, dtype)


def weights_digest(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file's bytes.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    try:
        with path.open('rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()[:_DIGITS]
    except OSError as error:
        raise CheckpointError(
            f'{path.name} cannot be read ({error.strerror}); copy it again or choose '
            'another file.'
        ) from error
