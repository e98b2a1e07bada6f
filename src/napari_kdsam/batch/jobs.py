"""What a batch does to each frame, in a form that travels between processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from napari_kdsam.batch.inputs import Source
from napari_kdsam.core.prompts import ObjectPrompt, PromptSet

# Results made by another version of the rules are not mixed with those of this one.
_RULES = 1

# Frames that are done one after another: source and frame.
Items = tuple[tuple[Source, int], ...]


class Method(StrEnum):
    """Where the objects of a frame come from.

    Attributes
    ----------
    prompts
        The prompts for the image and frame.
    propagation
        Prompts on key frames, then from mask to mask through the stack.
    automatic
        Everything a grid of points finds.
    proposals
        The boxes that the bundled proposal head finds; no prompts.
    """

    prompts = 'prompts'
    propagation = 'propagation'
    automatic = 'automatic'
    proposals = 'proposals'

    @property
    def looks_again(self) -> bool:
        """Whether a second look is of use: each object has a prompt on its own frame."""
        return self in (Method.prompts, Method.proposals)


@dataclass(frozen=True)
class Job:
    """How every frame of a batch is segmented, and where results go.

    Attributes
    ----------
    out : str
        Folder for the results.
    model : str
        Name or path, as for `load_model`.
    device : str
    method : Method
    prompts : PromptSet
        For the methods that take prompts.
    store : str
        Folder of an `EmbeddingStore`; empty for none.
    threads : int
        CPU threads of each process; 0 leaves PyTorch's own number.
    fingerprint : str
        Of all that decides what the labels are.
    second_look : bool
        Whether small objects of large images are looked at again, for the methods
        that `Method.looks_again` names.
    """

    out: str
    model: str = 'kdsam'
    device: str = 'auto'
    method: Method = Method.prompts
    prompts: PromptSet = field(default_factory=PromptSet)
    store: str = ''
    threads: int = 0
    fingerprint: str = ''
    second_look: bool = True

    def objects_of(self, source: Source) -> tuple[ObjectPrompt, ...]:
        """The prompted objects of an image; none if there are none for it."""
        return self.prompts.images.get(source.name, self.prompts.shared)

    def labels_path(self, source: Source, frame: int) -> Path:
        """The label image of a frame."""
        if not source.is_stack:
            return Path(self.out, f'{source.stem}_labels.png')
        return self.frames_folder(source) / f'frame_{frame:06d}.png'

    def frames_folder(self, source: Source) -> Path:
        """Where the frames of a stack wait to be put together."""
        return Path(self.out, f'{source.stem}_labels_frames')

    def stack_path(self, source: Source) -> Path:
        """The labels of a whole stack."""
        return Path(self.out, f'{source.stem}_labels.tif')

    def stack_record_path(self, source: Source) -> Path:
        """What became of the frames of a finished stack."""
        return Path(self.out, f'{source.stem}_labels.json')

    def result_name(self, source: Source) -> str:
        """Name of the file with the labels of a source."""
        if source.is_stack:
            return self.stack_path(source).name
        return self.labels_path(source, 0).name


def fingerprint_of(
    model_key: str,
    method: Method,
    prompts: PromptSet,
    store: bool,
    *,
    second_look: bool = True,
) -> str:
    """Identify what the labels depend on, so that only equal work is taken over.

    Parameters
    ----------
    model_key : str
        `Predictor.model_key`.
    method : Method
    prompts : PromptSet
    store : bool
        Whether embeddings pass through an embedding store, which rounds them.
    second_look : bool
        See `Job.second_look`.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    value = {
        'rules': _RULES,
        'model': model_key,
        'method': method.value,
        'shared': _plain(prompts.shared),
        'images': {name: _plain(items) for name, items in prompts.images.items()},
        'store': store,
        'second_look': second_look and method.looks_again,
    }
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(objects: Iterable[ObjectPrompt]) -> list[dict[str, Any]]:
    return [item.to_dict() for item in objects]


@dataclass(frozen=True)
class Task:
    """Frames that one process does one after another.

    Attributes
    ----------
    items : tuple of (Source, int)
        For propagation all frames of one stack, in order.
    """

    items: Items
