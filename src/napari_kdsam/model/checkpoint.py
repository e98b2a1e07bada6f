"""KD SAM checkpoints: one safetensors file with its own description in the header."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open

from napari_kdsam.core.errors import (
    CheckpointError,
    KDSAMError,
    excerpt,
    first_of,
    quoted,
)
from napari_kdsam.core.sizes import INPUT_SIZES
from napari_kdsam.model.network import ModelIdentity, PromptableModel, build_kdsam
from napari_kdsam.model.student import StudentEncoder
from napari_kdsam.model.weights_file import weights_key, write_weights

CHECKPOINT_KEY = 'kdsam'
CHECKPOINT_FORMAT = 1
# Batch counters are bookkeeping of training, not weights.
_NOT_STORED = 'num_batches_tracked'
Header = TypeVar('Header', bound=BaseModel)


class CheckpointMetadata(BaseModel):
    """What a checkpoint says of itself; keys beyond these are kept as they are.

    Attributes
    ----------
    format : int
        Version of this file format.
    architecture : str
        ``resnet50-v1-fpn-p3`` (512 input) or ``resnet50-v1-fpn-p4`` (1024).
    input_size : int
        Side of the encoder's square input in pixels.
    teacher, data, licence : str
        Which encoder was distilled, on what, and on which terms.
    """

    model_config = ConfigDict(extra='allow')

    format: int = CHECKPOINT_FORMAT
    architecture: str = ''
    input_size: int = 512
    teacher: str = ''
    data: str = ''
    licence: str = Field(default='')


def architecture_name(input_size: int) -> str:
    """Name the student's architecture for an input of `input_size` pixels."""
    return f'resnet50-v1-fpn-p{3 if input_size == 512 else 4}'


def read_metadata(path: str | os.PathLike[str]) -> CheckpointMetadata:
    """Read a checkpoint's description without its tensors.

    Parameters
    ----------
    path : path-like
        A KD SAM safetensors file.

    Raises
    ------
    CheckpointError
        If the file is missing, is not safetensors, or does not describe a KD SAM
        checkpoint that this version understands.
    """
    path = Path(path)
    metadata = read_header(
        path, CheckpointMetadata, CHECKPOINT_KEY, 'a KD SAM checkpoint'
    )
    _check_metadata(path, metadata)
    return metadata


def read_header(path: Path, kind: type[Header], key: str, what: str) -> Header:
    """Read what a safetensors file says of itself.

    Parameters
    ----------
    path : pathlib.Path
    kind : type
        Pydantic model of the entry.
    key : str
        The entry's name in the header.
    what : str
        What the file should be, for messages ("a KD SAM checkpoint").

    Returns
    -------
    instance of `kind`

    Raises
    ------
    CheckpointError
        If the file is missing, is not safetensors, or has no such entry.
    """
    with opened(path) as file:
        text = (file.metadata() or {}).get(key)
    if text is None:
        raise CheckpointError(
            f'{path.name} is a safetensors file but not {what}: its header has no '
            f'{key!r} entry.'
        )
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = '.'.join(str(part) for part in problem['loc']) or 'the whole entry'
        reason = excerpt(f'{where}: {problem["msg"]}')
        raise CheckpointError(
            f'{path.name} has an unusable header: {reason}.'
        ) from error


def check_format(path: Path, version: int, understood: int) -> None:
    """Refuse a file of a later format.

    Raises
    ------
    CheckpointError
        If `version` is above the one that is understood.
    """
    if version > understood:
        raise CheckpointError(
            f'{path.name} has format version {quoted(version)}, newer than this '
            f'napari-kdsam understands ({understood}); update napari-kdsam.'
        )


def _check_metadata(path: Path, metadata: CheckpointMetadata) -> None:
    check_format(path, metadata.format, CHECKPOINT_FORMAT)
    if metadata.input_size not in INPUT_SIZES:
        raise CheckpointError(
            f'{path.name} asks for a {quoted(metadata.input_size)} pixel input; only '
            f'{" and ".join(map(str, INPUT_SIZES))} are supported.'
        )
    expected = architecture_name(metadata.input_size)
    if metadata.architecture != expected:
        raise CheckpointError(
            f'{path.name} holds the architecture {quoted(metadata.architecture)}; for its '
            f'{metadata.input_size} pixel input {expected!r} is expected.'
        )


def tensor_names(path: str | os.PathLike[str]) -> set[str]:
    """Read which tensors a safetensors file has, without the tensors.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    with opened(Path(path)) as file:
        return set(file.keys())


def read_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read every tensor of a safetensors file as float32.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    with opened(Path(path)) as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file, or say in one sentence why it cannot be."""
    try:
        with safe_open(path, framework='pt') as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f'There is no weights file at {path}.') from error
    except KDSAMError:
        raise
    except Exception as error:
        # Damaged bytes lead the reader to errors of many kinds.
        raise CheckpointError(
            f'{path.name} is not a readable safetensors file ({excerpt(error)}); '
            'copy it again or choose another file.'
        ) from error


def load_tensors(
    module: torch.nn.Module, tensors: dict[str, torch.Tensor], source: str
) -> None:
    """Put tensors into a module after checking every name and shape.

    Parameters
    ----------
    module : torch.nn.Module
        Receives the tensors.
    tensors : dict of str to torch.Tensor
        By parameter name.
    source : str
        Name of the file, for the message.

    Raises
    ------
    CheckpointError
        Naming the first tensors that are missing, unexpected, of the wrong shape
        or not finite.
    """
    expected = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if not name.endswith(_NOT_STORED)
    }
    tensors = {k: v for k, v in tensors.items() if not k.endswith(_NOT_STORED)}
    problems = [
        _listed('misses', sorted(expected.keys() - tensors.keys())),
        _listed('has unknown', sorted(tensors.keys() - expected.keys())),
        _listed(
            'has a wrong shape for',
            [
                f'{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}'
                for name, tensor in tensors.items()
                if name in expected and tensor.shape != expected[name].shape
            ],
        ),
        _listed(
            'has values that are not finite in',
            # A few bytes can pretend to any shape, so only what fits is looked at.
            [
                name
                for name, tensor in tensors.items()
                if name in expected
                and tensor.shape == expected[name].shape
                and not bool(torch.isfinite(tensor).all())
            ],
        ),
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise CheckpointError(f'{source} does not fit this model: {"; ".join(found)}.')
    module.load_state_dict(tensors, strict=False)


def _listed(problem: str, names: list[str]) -> str:
    if not names:
        return ''
    plural = 's' * (len(names) > 1)
    return f'it {problem} {len(names)} tensor{plural} ({first_of(names)})'


def load_kdsam(path: str | os.PathLike[str], name: str = '') -> PromptableModel:
    """Load a KD SAM checkpoint.

    Parameters
    ----------
    path : path-like
        A KD SAM safetensors file.
    name : str
        Name to show; the file's stem by default.

    Returns
    -------
    PromptableModel
        On the CPU, float32, not yet prepared for inference.

    Raises
    ------
    CheckpointError
        If anything about the file is not as it should be.
    """
    path = Path(path)
    metadata = read_metadata(path)
    model = build_kdsam(metadata.input_size)
    load_tensors(model, read_tensors(path), path.name)
    model.identity = ModelIdentity(
        name or path.stem,
        metadata.architecture,
        weights_key(path),
        str(path),
        metadata.model_dump(),
    )
    return model


def save_kdsam(
    model: PromptableModel,
    path: str | os.PathLike[str],
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a KD SAM checkpoint; the file appears only when it is complete.

    Matrices and kernels are stored as float16, one-dimensional tensors as float32
    because running variances overflow float16.

    Parameters
    ----------
    model : PromptableModel
        Built by `build_kdsam`, not folded for inference.
    path : path-like
        Where to write.
    metadata : dict, optional
        Further entries of the header, such as teacher, data, recipe and metrics.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    CheckpointError
        If a value does not fit float16, the model was prepared for inference, or it
        is not a KD SAM.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    if not isinstance(model.encoder, StudentEncoder):
        raise CheckpointError(
            'Only KD SAM models are written as KD SAM checkpoints; this one has '
            'another encoder.'
        )
    if model.prepared:
        raise CheckpointError(
            'This model was prepared for inference, which folds its weights; save the '
            'one that was trained.'
        )
    header = CheckpointMetadata(
        **{
            **(metadata or {}),
            'format': CHECKPOINT_FORMAT,
            'architecture': architecture_name(model.input_size),
            'input_size': model.input_size,
        }
    )
    write_weights(
        path,
        model.state_dict(),
        CHECKPOINT_KEY,
        header,
        lambda name: not name.endswith(_NOT_STORED),
    )
    return path
