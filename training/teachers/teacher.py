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
from torch.nn import functional

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.intensity import (
    IntensityMapping,
    check_image,
    to_model_pixels,
)
from napari_kdsam.core.sizes import EMBEDDING_CHANNELS, EMBEDDING_SIZE, PROMPT_SIDE
from napari_kdsam.model.device import resolve_device
from napari_kdsam.model.loading import load_model
from napari_kdsam.model.network import (
    ModelIdentity,
    PromptableModel,
    normalise_pixels,
)
from napari_kdsam.model.onnx import OnnxEncoder
from napari_kdsam.model.registry import list_models
from napari_kdsam.model.sam import DECODER_FILE, load_sam_decoder
from napari_kdsam.training.squares import extend_edges
from napari_kdsam.training.teachers.mobile_sam import (
    check_against_runtime,
    is_mobile_sam,
    load_mobile_sam,
)

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
        return PaddedSquare(
            (image.shape[0], image.shape[1]), self.input_size
        ).scaled_shape

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

    def embed_squares(self, pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """Embed images that lie in squares of another size, without leaving the device.

        Parameters
        ----------
        pixels : torch.Tensor
            (B, 3, S, S) RGB 0..255, uint8 or float, each image scaled so that its
            longest side is S, at the top left; what lies outside is not looked at.
        sizes : torch.Tensor
            (B, 2) int rows and columns of each image in its square.

        Returns
        -------
        torch.Tensor
            (B, 256, 64, 64) float32 on `device`. Close to `embed` of the original
            images, as far as the squares kept their detail.
        """
        side = pixels.shape[-1]
        sizes = sizes.to(self.device)
        squares = extend_edges(pixels.to(self.device), sizes).float()
        # Not inference_mode, for the reason given in `embed`.
        with torch.no_grad():
            if side != self.input_size:
                squares = functional.interpolate(
                    squares,
                    (self.input_size, self.input_size),
                    mode='bilinear',
                    align_corners=False,
                    antialias=side > self.input_size,
                )
            scaled = (2 * sizes * self.input_size + side) // (2 * side)
            steps = torch.arange(self.input_size, device=self.device)
            rows, columns = (steps < scaled[:, axis, None] for axis in (0, 1))
            image = (rows[:, :, None] & columns[:, None, :])[:, None]
            return self.model.encode_normalised(normalise_pixels(squares) * image)

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
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. MobileSAM's ONNX file runs
        in torch; other ONNX encoders run on CUDA through ONNX Runtime where it can,
        else on the CPU.
    dtype : torch.dtype, optional
        Precision of the encoder; float32 by default, so that a cache filled on one
        machine serves another. Any other precision becomes part of the key, but for
        ONNX Runtime, which always runs in float32.

    Raises
    ------
    ModelNotFoundError
        If the name is unknown or its file is not on this computer.
    CheckpointError
        If the file cannot be used.
    DeviceError
        If the device is not available.
    MissingExtraError
        If the file is ONNX and ``onnx``, or a runtime for it, is not installed.
    """
    known = {entry.name: entry.path for entry in list_models()}
    path = known.get(str(path_or_name), Path(path_or_name).expanduser())
    precision = dtype or torch.float32
    if path.suffix.lower() == '.onnx' and path.is_file():
        name = str(path_or_name) if str(path_or_name) in known else path.stem
        model = _open_onnx(path, name, resolve_device(device), precision)
    else:
        model = load_model(path_or_name, device, dtype=precision)
    # An ONNX encoder's embeddings do not depend on the decoder beside it.
    parts = [model.identity.architecture, weights_digest(Path(model.identity.path))]
    if precision != torch.float32 and not isinstance(model.encoder, OnnxEncoder):
        parts.append(str(precision).removeprefix('torch.'))
    return Teacher(model, model.identity.name, '-'.join(parts))


def _open_onnx(
    path: Path, name: str, device: torch.device, dtype: torch.dtype
) -> PromptableModel:
    encoder: nn.Module
    if is_mobile_sam(path):
        encoder = load_mobile_sam(path)
        # A teacher that is silently another one would cost the whole run.
        check_against_runtime(encoder, path)
    else:
        encoder = OnnxEncoder(path)
        encoder.run_on(device)
    decoder = path.with_name(DECODER_FILE)
    parts: tuple[Any, Any] = (nn.Identity(), _NoDecoder())
    if decoder.is_file():
        parts = load_sam_decoder(decoder)
    # Both ways of running MobileSAM agree, so they share a cache.
    identity = ModelIdentity(name, 'onnx', weights_digest(path), str(path))
    return PromptableModel(encoder, *parts, PROMPT_SIDE, identity).prepare(
        device, dtype
    )


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
