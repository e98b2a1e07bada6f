"""Classes by their names: found again, or added with a colour of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from napari_kdsam.annotation.state import FIRST_CLASS, AnnotationState, ObjectClass
from napari_kdsam.io.overlay import PALETTE


def class_named(
    classes: tuple[ObjectClass, ...], name: str, class_id: int | None = None
) -> tuple[tuple[ObjectClass, ...], int]:
    """Find the class of a name, or add it.

    Parameters
    ----------
    classes : tuple of ObjectClass
    name : str
        Capital and small letters are the same.
    class_id : int, optional
        What a class that is added should have, if no other class does.

    Returns
    -------
    classes : tuple of ObjectClass
        With it.
    class_id : int
        Its id.
    """
    for known in classes:
        if known.name.casefold() == name.casefold():
            return classes, known.id
    taken = {known.id for known in classes}
    if class_id is None or class_id < 1 or class_id in taken:
        class_id = max(taken, default=0) + 1
    added = ObjectClass(class_id, name, color_unlike(known.color for known in classes))
    return (*classes, added), class_id


def with_known_classes(
    state: AnnotationState, names: Mapping[int, str], labels: Mapping[int, str]
) -> AnnotationState:
    """Give a state classes of an earlier time.

    Parameters
    ----------
    state : AnnotationState
        Of an image with nothing annotated yet.
    names : mapping of int to str
        Id, where it is free, to the name of each class to be offered. The class that
        everything begins with goes if it is not among them.
    labels : mapping of int to str
        Label to the name of its class, of the labels that the image has already.
    """
    classes, current = state.classes, state.current_class
    if classes == (FIRST_CLASS,) and names.get(FIRST_CLASS.id, '') != FIRST_CLASS.name:
        classes = () if names else classes
    for class_id, name in names.items():
        classes, _ = class_named(classes, name, class_id)
    known: dict[int, int] = {}
    for label, name in labels.items():
        classes, known[label] = class_named(classes, name)
    if current not in {item.id for item in classes}:
        current = classes[0].id
    return replace(
        state,
        classes=classes,
        current_class=current,
        known_classes=MappingProxyType(known),
    )


def color_unlike(used: Iterable[str]) -> str:
    """The ``#rrggbb`` that is as far as possible from those in use."""
    offered = np.concatenate([PALETTE, PALETTE // 2]).astype(int)
    there = np.array([list(bytes.fromhex(color[1:])) for color in used], int)
    squares = ((offered[:, None] - there.reshape(-1, 3)) ** 2).sum(axis=-1)
    farthest = np.argmax(squares.min(axis=1, initial=3 * 255**2))
    return '#' + bytes(offered[farthest].tolist()).hex()
