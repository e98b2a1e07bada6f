"""Stand-ins for models, whose answers can be worked out by hand, and for slow data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RADIUS = 24.0


@dataclass
class FakeModel:
    """Answers every prompt with a shape one can compute by hand.

    Points give discs of `RADIUS` pixels in the 256 x 256 logits (outside points cut
    discs away), a box gives its inside, a mask itself. Alternatives have other radii.
    """

    key: str = 'fake'
    encode_seconds: float = 0.0
    encoded: int = 0
    decoded: int = 0
    threads: set[str] = field(default_factory=set)
    fail_with: Exception | None = None

    def __post_init__(self) -> None:
        import torch

        from napari_kdsam.model.network import ModelIdentity

        self.identity = ModelIdentity(self.key, 'fake', self.key)
        self.compute_dtype = torch.float32
        self.device = torch.device('cpu')
        self.input_size = 512

    def encode(self, pixels: Any) -> Any:
        import torch

        self.encoded += 1
        self.threads.add(threading.current_thread().name)
        if self.fail_with is not None:
            raise self.fail_with
        time.sleep(self.encode_seconds)
        return torch.zeros(1, 256, 64, 64)

    def decode(
        self,
        embedding: Any,
        points: Any = None,
        boxes: Any = None,
        mask_logits: Any = None,
        *,
        multimask_output: bool,
    ) -> tuple[Any, Any]:
        import torch

        self.decoded += 1
        self.threads.add(threading.current_thread().name)
        given = [points[0] if points is not None else None, boxes, mask_logits]
        count = next(len(part) for part in given if part is not None)
        radii = (RADIUS / 2, RADIUS, 2 * RADIUS) if multimask_output else (RADIUS,)
        logits = torch.stack(
            [
                torch.stack(
                    [
                        self._shape(points, boxes, mask_logits, n, radius)
                        for radius in radii
                    ]
                )
                for n in range(count)
            ]
        )
        scores = torch.tensor([[0.7, 0.9, 0.8]] if multimask_output else [[0.9]])
        return logits, scores.expand(count, -1)

    @staticmethod
    def _shape(points: Any, boxes: Any, masks: Any, n: int, radius: float) -> Any:
        import torch

        rows, columns = torch.meshgrid(
            torch.arange(256.0), torch.arange(256.0), indexing='ij'
        )
        inside = torch.zeros(256, 256, dtype=torch.bool)
        if masks is not None:
            inside |= masks[n, 0] > 0
        elif boxes is not None:
            x0, y0, x1, y1 = boxes[n] / 4
            inside |= (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
        if points is not None:
            for label in (1, 0):
                for (x, y), own in zip(points[0][n] / 4, points[1][n], strict=True):
                    if int(own) == label:
                        disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
                        inside = inside | disc if label else inside & ~disc
        return torch.where(inside, 10.0, -10.0)


@dataclass
class SeeingModel(FakeModel):
    """Takes whatever is bright for the object, and notes what it is shown and asked."""

    score: float = 0.95
    shown: list[Any] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def encode(self, pixels: Any) -> Any:
        import torch

        self.encoded += 1
        self.shown.append(pixels[0].numpy().copy())
        rows, columns = pixels.shape[-2:]
        square = torch.nn.functional.pad(
            pixels[:, :1].float(), (0, 512 - columns, 0, 512 - rows)
        )
        grid = torch.nn.functional.avg_pool2d(square, 2)
        features = torch.zeros(256 * 64 * 64)
        features[: 256 * 256] = grid.flatten()
        return features.reshape(1, 256, 64, 64)

    def decode(
        self,
        embedding: Any,
        points: Any = None,
        boxes: Any = None,
        mask_logits: Any = None,
        *,
        multimask_output: bool,
    ) -> tuple[Any, Any]:
        import torch

        self.decoded += 1
        asked = {'points': points, 'boxes': boxes, 'logits': mask_logits}
        self.asked.append(asked)
        given = [points[0] if points is not None else None, boxes, mask_logits]
        count = next(len(part) for part in given if part is not None)
        grid = embedding.flatten()[: 256 * 256].reshape(256, 256)
        scores = [0.7, 0.9, 0.8] if multimask_output else [self.score]
        logits = ((grid - 127.5) / 10).expand(count, len(scores), 256, 256)
        return logits, torch.tensor([scores]).expand(count, -1)


class Gate:
    """Holds a thread up at a place until it is opened."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        if is_open:
            self.open()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()
        self.reached.clear()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._open.wait(30), 'nobody opened the gate'

    def before(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, behind the gate."""

        def gated(*values: Any, **named: Any) -> Any:
            self.pass_through()
            return act(*values, **named)

        return gated


class LookingModel(FakeModel):
    """Answers a mask prompt by its points alone, so that a window has smaller discs.

    Each image after the first is encoded behind `gate`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(is_open=True)

    def encode(self, pixels: Any) -> Any:
        if self.encoded:
            self.gate.pass_through()
        return super().encode(pixels)

    def decode(
        self,
        embedding: Any,
        points: Any = None,
        boxes: Any = None,
        mask_logits: Any = None,
        *,
        multimask_output: bool,
    ) -> tuple[Any, Any]:
        return super().decode(
            embedding, points, boxes, multimask_output=multimask_output
        )


class LazyStack:
    """An array that gives one frame at a time and refuses to be loaded whole.

    Threads read it behind `gate`, and cannot read the frames in `broken`.
    """

    def __init__(self, values: np.ndarray, broken: set[int] | None = None) -> None:
        self._values = values
        self.broken = broken or set()
        self.gate = Gate(is_open=True)
        self.shape, self.ndim, self.dtype = values.shape, values.ndim, values.dtype
        self.read: list[Any] = []
        self.read_by_threads: list[Any] = []
        self.frames_read: set[int] = set()

    def __getitem__(self, index: Any) -> np.ndarray:
        first = index[0] if isinstance(index, tuple) else index
        frames = np.atleast_1d(np.arange(len(self._values))[first]).tolist()
        assert len(frames) == 1, 'more than a frame was asked for'
        self.read.append(index)
        self.frames_read.update(frames)
        if threading.current_thread() is not threading.main_thread():
            self.read_by_threads.append(index)
            self.gate.pass_through()
            if self.broken & {*frames}:
                raise OSError('the disk is gone')
        return np.asarray(self._values[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[index] = value

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError('the stack was loaded whole')
