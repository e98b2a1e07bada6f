"""Callbacks on napari's events, all of them disconnected at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Connections:
    """Remember which callbacks were connected to which events."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Callable[..., None]]] = []

    def connect(
        self, emitters: Any, names: tuple[str, ...], callback: Callable[..., None]
    ) -> None:
        """Call back on those of the named events that this napari has."""
        for name in names:
            event = getattr(emitters, name, None)
            if event is not None:
                event.connect(callback)
                self._made.append((event, callback))

    def close(self) -> None:
        """Disconnect all of them."""
        made, self._made = self._made, []
        for event, callback in made:
            event.disconnect(callback)
