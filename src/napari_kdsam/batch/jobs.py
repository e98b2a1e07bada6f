"""What a batch does to each frame, in a form that travels between processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.output_folder import OutputFolder
from napari_kdsam.core.prompts import ObjectPrompt, PromptSet
from napari_kdsam.segmentation.methods import Method

# Results made by another version of the rules are not mixed with those of this one.
_RULES = 1
_FOLLOWING_RULES = 2

# Frames that are done one after another: source and frame.
Items = tuple[tuple[Source, int], ...]


@dataclass(frozen=True)
class Job:
    """How every frame of a batch is segmented, and where results go.

    Attributes
    ----------
    output : OutputFolder
    model : str
        Name or path, as for `load_model`.
    device : str
    method : Method
    prompts : PromptSet
        For the methods that take prompts; while they are done, by location.
    store : str
        Folder of an `EmbeddingStore`; empty for none.
    threads : int
        CPU threads of each process; 0 leaves PyTorch's own number.
    second_look : bool
        Whether small objects of large images are looked at again, for the methods
        that `Method.looks_again` names.
    """

    output: OutputFolder
    model: str = 'kdsam'
    device: str = 'auto'
    method: Method = Method.prompts
    prompts: PromptSet = field(default_factory=PromptSet)
    store: str = ''
    threads: int = 0
    second_look: bool = True

    def objects_of(self, source: Source) -> tuple[ObjectPrompt, ...]:
        """The prompted objects of an image; none if there are none for it."""
        return self.prompts.images.get(source.location, self.prompts.shared)


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
        Of the model and the precision it computes in.
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
    value: dict[str, Any] = {
        'rules': _RULES,
        'model': model_key,
        'method': method.value,
        'shared': _plain(prompts.shared),
        'images': {name: _plain(items) for name, items in prompts.images.items()},
        'store': store,
    }
    if method is Method.propagation:
        value['following'] = _FOLLOWING_RULES
    if second_look and method.looks_again:
        # Named only where it is taken, so that batches from before it can go on.
        value['second_look'] = True
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
