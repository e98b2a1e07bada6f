"""What waits for the inference thread."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field

from napari_kdsam.widgets.shared.requests import LikelyRequest, Prefetch, Request


@dataclass
class Slot:
    """A place for one request; a newer one takes it over.

    Attributes
    ----------
    request : Request or None
        To be done before everything else.
    second_look : Request or None
        To be done when there is no request and no model to load.
    hover : Request or None
        To be done when there is no second look either.
    likely : LikelyRequest or None
        To be done when there is nothing else but frames to embed.
    to_prefetch : list of Prefetch
        To be done when there is nothing else.
    to_load : tuple of (str, str) or None
        Name of a model and of a device.
    stopped : bool
    condition : threading.Condition
        Held by whoever changes the slot.
    """

    request: Request | None = None
    second_look: Request | None = None
    hover: Request | None = None
    likely: LikelyRequest | None = None
    to_prefetch: list[Prefetch] = field(default_factory=list)
    to_load: tuple[str, str] | None = None
    stopped: bool = False
    condition: threading.Condition = field(default_factory=threading.Condition)

    def has_work(self) -> bool:
        """Whether there is anything to do, if only to end."""
        asked = self.request or self.second_look or self.hover or self.likely
        return bool(self.stopped or asked or self.to_load or self.to_prefetch)

    def wants(self, frame: Prefetch) -> bool:
        """Whether a frame that is at hand is still the next thing to embed."""
        with self.condition:
            if self.stopped or self.to_load:
                return False
            if self.request is not None:
                return _identity(self.request) == _identity(frame)
            return any(_identity(f) == _identity(frame) for f in self.to_prefetch)

    def drop(self, frame: Prefetch) -> None:
        """Let a frame wait no longer, whether it was embedded or not."""
        with self.condition:
            self.to_prefetch = [
                waiting
                for waiting in self.to_prefetch
                if _identity(waiting) != _identity(frame)
            ]


def _identity(job: Request | Prefetch) -> Hashable:
    """Equal for jobs that need the same embedding."""
    return job.image_token, job.mapping, job.model, job.device
