"""A batch from folder to folder, in a thread: what `napari-kdsam batch` does."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Signal  # type: ignore[attr-defined]

from napari_kdsam.core.choices import Existing
from napari_kdsam.core.errors import KDSAMError, counted
from napari_kdsam.segmentation.methods import Method
from napari_kdsam.widgets.shared.background import BackgroundWorker, Stopped


@dataclass(frozen=True)
class FolderChoices:
    """What is done with a folder.

    Attributes
    ----------
    images, labels : pathlib.Path
        Folders that images are read from, and labels are written to.
    method : Method
        One that needs no prompts.
    model, device : str
    second_look : bool
    """

    images: Path
    labels: Path
    method: Method
    model: str
    device: str
    second_look: bool


class FolderRun(BackgroundWorker):
    """Segment every image of a folder, and go on where an earlier run ended.

    Attributes
    ----------
    told : Signal
        (sentence,) on what is done.
    ended : Signal
        (sentence, whether there are results).
    running : bool
    """

    told = Signal(str)
    ended = Signal(str, bool)

    def __init__(self) -> None:
        super().__init__('Segmenting')
        self._cancelled = threading.Event()
        self.running = False
        self.ended.connect(self._on_ended)

    def start(self, choices: FolderChoices) -> None:
        """Begin; only while nothing runs."""
        self.running = True
        self._cancelled.clear()
        self.do(self._run, choices)

    def cancel(self) -> None:
        """End after the frame in hand; what is done stays, and is in the manifest."""
        self._cancelled.set()

    def close(self) -> None:
        """Let the thread end after the frame in hand."""
        self.cancel()
        super().close()

    def _on_ended(self, text: str, done: bool) -> None:
        self.running = False

    def _run(self, choices: FolderChoices) -> None:
        try:
            text, done = self._do(choices)
        except Stopped:
            text, done = 'Cancelled before the first image.', False
        except KDSAMError as error:
            text, done = str(error), False
        except OSError as error:
            text, done = f'Not done: {error.strerror or error}', False
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be said
            text, done = f'Segmenting failed: {error}', False
        self._emit(self.ended, text, done)

    def _do(self, choices: FolderChoices) -> tuple[str, bool]:
        from napari_kdsam.batch.executors import executor_for
        from napari_kdsam.batch.records import FrameResult, Status
        from napari_kdsam.batch.runner import find_sources, run_batch
        from napari_kdsam.batch.work import job_for
        from napari_kdsam.core.prompts import PromptSet

        if not choices.images.is_dir():
            return f'There is no folder {choices.images}; choose another.', False
        self._emit(self.told, 'Loading the model…')
        choices.labels.mkdir(parents=True, exist_ok=True)
        job = job_for(
            choices.labels,
            choices.model,
            choices.device,
            choices.method,
            PromptSet(),
            None,
            second_look=choices.second_look,
        )

        def on_step(looked_at: int, found: int) -> None:
            if self._cancelled.is_set():
                raise Stopped
            if looked_at % 20 == 0:
                self._emit(self.told, f'Looking for images: {found} files…')

        sources = find_sources([str(choices.images)], job.output, (), on_step)
        total = sum(s.frame_count for s in sources if not s.left_out)
        done = 0

        def on_result(result: FrameResult) -> None:
            nonlocal done
            done += 1
            self._emit(self.progressed, 0, done, total)
            if self._cancelled.is_set():
                # As Ctrl+C ends a batch: the manifest is written still.
                raise KeyboardInterrupt

        try:
            summary = run_batch(
                job, sources, executor_for(1, ''), Existing.resume, on_result
            )
        except KeyboardInterrupt:
            return 'Cancelled; Start goes on.', True
        count = summary.count
        noted = sum(
            r.status is Status.done and bool(r.reason) for r in summary.results.values()
        )
        look = f' ({noted} to look at)' if noted else ''
        text = (
            f'{counted(len(summary.sources), "file")}: {count(Status.done)} done{look}, '
            f'{count(Status.failed)} failed, {count(Status.skipped)} skipped'
        )
        if summary.left_out:
            text += f', {counted(len(summary.left_out), "file")} left out'
        text += '; see manifest.csv.'
        if summary.stopped:
            reason = summary.stopped.rstrip('.').replace('Interrupted', 'Cancelled')
            text = f'{reason}; Start goes on. {text}'
        return text, True
