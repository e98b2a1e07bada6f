"""Notice while a point or a shape is being dragged, not only when it is let go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

_MOVING = ('select', 'direct')


def watch_drags(layer: Layer, on_drag: Callable[[], None]) -> None:
    """Call `on_drag` after each movement while something of the layer is dragged.

    napari reports a dragged prompt once it is let go; its layer's data follow the
    mouse before that.
    """

    def watch(dragged: Any, event: Any) -> Iterator[None]:
        if str(dragged.mode) not in _MOVING:
            return
        yield
        while event.type == 'mouse_move':
            on_drag()
            yield

    layer.mouse_drag_callbacks.append(watch)
