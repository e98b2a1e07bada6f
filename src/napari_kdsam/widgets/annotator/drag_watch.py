"""Notice a mouse button that is held down, not only when it is let go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer, Points

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


def watch_presses(
    points: Points, on_press: Callable[[Any], None], on_release: Callable[[], None]
) -> None:
    """Call `on_press` with the place where a point is about to be added.

    napari adds it when the button is let go, a tenth of a second later, unless the mouse
    was moved away. `on_release` is called then, before napari has decided.
    """

    def watch(pressed: Any, event: Any) -> Iterator[None]:
        if str(pressed.mode) != 'add':
            return
        on_press(pressed.world_to_data(event.position))
        yield
        while event.type == 'mouse_move':
            yield
        on_release()

    points.mouse_drag_callbacks.insert(0, watch)
