"""A batch in the viewer: starts the thread, writes what comes, goes on after a stop."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.segmentation.frame_labels import NothingToDo, Outcome
from napari_kdsam.widgets.batch.jobs import (
    Finished,
    FrameEnded,
    GivenLabels,
    KeysFound,
    PredictorKeeper,
    Ready,
    Step,
    run_job,
)
from napari_kdsam.widgets.batch.labels_sink import KeptError
from napari_kdsam.widgets.batch.progress import (
    Counts,
    FollowPlan,
    Item,
    Pace,
)
from napari_kdsam.widgets.batch.record import Batch
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.covering import covering, grid_of
from napari_kdsam.widgets.shared.image_frames import ImageFrames
from napari_kdsam.widgets.shared.inference_thread import (
    PredictorFactory,
    make_predictor,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer


class Phase(Enum):
    """What the batch is doing."""

    IDLE = 'idle'
    RUNNING = 'running'
    PAUSING = 'pausing'
    PAUSED = 'paused'
    STOPPING = 'stopping'


class BatchController(QObject):
    """Everything the batch widget does, without its buttons.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    predictor_factory : callable
        Makes a predictor from a model's and a device's name.

    Attributes
    ----------
    updated : Signal
        Emitted whenever anything shown may have changed.
    began, ended : Signal
        Emitted when frames begin to be done, and when no more are.
    phase : Phase
    sentence : str
        What is going on.
    batch : Batch or None
        The last one that was started, while its layers are there.
    follows_view : bool
        Whether the view goes to each frame that is done.
    """

    updated = Signal()
    began = Signal()
    ended = Signal()

    def __init__(
        self, viewer: Viewer, predictor_factory: PredictorFactory = make_predictor
    ) -> None:
        super().__init__()
        self.viewer = viewer
        self.phase = Phase.IDLE
        self.sentence = ''
        self.batch: Batch | None = None
        self.follows_view = False
        self._keeper = PredictorKeeper(predictor_factory)
        self._worker: Any = None
        self._pace = Pace(time.monotonic)
        self._end: Finished | None = None
        self._shown: Item | None = None
        self._again = False
        self._again_from = 0
        self._closed = False
        self._connections = Connections()
        self._connections.connect(viewer.layers.events, ('removed',), self._on_removed)

    @property
    def counts(self) -> Counts:
        """How many frames of each kind; while nothing runs, those left are skipped."""
        counts = self.batch.plan.counts if self.batch else Counts(0, 0, 0, 0)
        if self.phase is Phase.IDLE:
            left = counts.skipped + counts.waiting
            return counts._replace(skipped=left, waiting=0)
        return counts

    @property
    def pace(self) -> str:
        """Rate and time left, as far as they are known."""
        return self._pace.describe(self.counts.waiting)

    @property
    def can_resume(self) -> bool:
        """Whether a stopped or paused batch has frames left to do."""
        if self.phase is Phase.PAUSED:
            return True
        left = self.batch is not None and bool(self.batch.plan.waiting)
        return self.phase is Phase.IDLE and left

    def start(self, batch: Batch) -> None:
        """Begin a batch; only while nothing runs."""
        self.batch = batch
        self._shown = None
        self._pace = Pace(time.monotonic)
        self._run()

    def pause(self) -> None:
        """Stand still after the frame that is being done."""
        if self.phase is Phase.RUNNING:
            self._worker.pause()
            self._enter(Phase.PAUSING, 'Pausing after this frame…')

    def resume(self) -> None:
        """Go on after a pause, or do the frames that a cancelled batch left."""
        if self.phase is Phase.PAUSED:
            self._worker.resume()
            self._pace.go()
            self._enter(Phase.RUNNING, 'Working…')
        elif self.can_resume:
            self._run()

    def cancel(self) -> None:
        """Stop after the frame that is being done; what is done stays."""
        self._again = False
        self._stop('Cancelling after this frame…')

    @property
    def frame(self) -> int | None:
        """Place in the stack of the frame in view; None for several images."""
        if self.batch is None or len(self.batch.sources) != 1:
            return None
        frames = self.batch.sources[0].frames
        return frames.flat_index(frames.at(self.viewer.dims.point))

    @property
    def can_continue(self) -> bool:
        """Whether the frame in view may become a key frame to continue from."""
        if self.batch is None or self.frame is None:
            return False
        plan = self.batch.plan
        return isinstance(plan, FollowPlan) and plan.can_continue_from(self.frame)

    def continue_from_here(self) -> None:
        """Take the labels of the frame in view as right, and follow on from them."""
        frame = self.frame
        if self.batch is None or frame is None or not self.can_continue:
            return
        batch, plan = self.batch, self.batch.plan
        if not isinstance(plan, FollowPlan):
            return
        labels = batch.outputs[0].reader()(batch.frame(Item(0, frame)))
        if not labels.any():
            self.say('There is no label on this frame; paint or commit one first.')
            return
        if self.phase is Phase.IDLE:
            self._continue(frame)
            return
        # Results that are on their way may be of the frames that are to be done again.
        self._again = True
        self._again_from = frame
        self._stop('Finishing the frame before continuing…')

    @property
    def item(self) -> Item | None:
        """The frame in view, or the image that was shown last of several."""
        frame = self.frame
        return self._shown if frame is None else Item(0, frame)

    def show(self, item: Item) -> None:
        """Bring a frame of the batch into view, its image and labels with it."""
        batch = self.batch
        if batch is None:
            return
        before, self._shown = self._shown, item
        source, output = batch.sources[item.image], batch.outputs[item.image]
        if not grid_of(self.viewer).enabled:
            others = [s.image for s in batch.sources if s is not source]
            labels = [o.layer for o in batch.outputs if o.layer is not output.layer]
            for layer in (*covering(self.viewer, source.image), *others, *labels):
                layer.visible = False
        source.image.visible = output.layer.visible = True
        ImageFrames(source.image).go_to(self.viewer.dims, batch.frame(item))
        if len(batch.sources) > 1 and (before is None or before.image != item.image):
            self.viewer.reset_view()

    def say(self, text: str) -> None:
        """Show a sentence."""
        self._enter(self.phase, text)

    def close(self) -> None:
        """Let go of the viewer, and let the thread end after its frame."""
        self._closed = True
        self._connections.close()
        if self._worker is not None:
            self._worker.quit()
            self._worker = None
        self.batch = None

    def _continue(self, frame: int) -> None:
        if self.batch is None or not isinstance(self.batch.plan, FollowPlan):
            return
        self.batch.plan.continue_from(frame)
        self.batch.outputs[0].release(self.batch.frame(Item(0, frame)))
        self._run()

    def _run(self) -> None:
        from napari.qt.threading import create_worker

        batch = self.batch
        if batch is None:
            return
        job = batch.make_job(batch.plan.waiting, self._starts(batch))
        self._end = None
        self._again = False
        worker = create_worker(
            run_job,
            job,
            self._keeper,
            batch.model,
            batch.device,
            _start_thread=False,
        )
        worker.yielded.connect(self._on_step)
        worker.paused.connect(self._on_paused)
        worker.finished.connect(self._on_finished)
        self._worker = worker
        self.began.emit()
        self._enter(Phase.RUNNING, 'Starting…')
        worker.start()

    @staticmethod
    def _starts(batch: Batch) -> dict[int, GivenLabels]:
        """Where frames are followed from, read from what the output holds now."""
        plan, output = batch.plan, batch.outputs[0]
        if not isinstance(plan, FollowPlan):
            return {}
        starts = {}
        for frame in plan.starts():
            labels = output.written(batch.frame(Item(0, frame)))
            own = frame in plan.own_keys
            starts[frame] = GivenLabels(output.reader(), None if own else labels)
        return starts

    def _stop(self, text: str) -> None:
        if self._worker is not None and self.phase is not Phase.IDLE:
            self._worker.quit()
            self._enter(Phase.STOPPING, text)

    def _on_step(self, step: Step) -> None:
        if self._closed or self.batch is None:
            return
        if isinstance(step, FrameEnded):
            self._take(step.item, step.outcome)
        elif isinstance(step, KeysFound):
            if isinstance(self.batch.plan, FollowPlan):
                self.batch.plan.keys |= step.frames
        elif isinstance(step, Finished):
            self._end = step
        elif isinstance(step, Ready):
            self._pace.go()
            self._say_running('Working…')
        else:
            self._say_running(step.text)

    def _take(self, item: Item, outcome: Outcome) -> None:
        batch = self.batch
        if batch is None:
            return
        if isinstance(outcome, NothingToDo):
            batch.plan.skip([item])
            return
        self._pace.count()
        try:
            if isinstance(outcome, KDSAMError):
                raise outcome
            batch.outputs[item.image].write(batch.frame(item), outcome)
        except KeptError as error:
            batch.plan.kept(item, str(error))
        except KDSAMError as error:
            batch.plan.failed(item, str(error))
        else:
            batch.plan.done(item, outcome.note)
        if self.follows_view:
            self.show(item)
        self.updated.emit()

    def _say_running(self, text: str) -> None:
        if text and self.phase is Phase.RUNNING:
            self.say(text)

    def _on_paused(self) -> None:
        if self.phase is Phase.PAUSING:
            self._pace.stop()
            self._enter(Phase.PAUSED, 'Paused.')

    def _on_finished(self) -> None:
        self._worker = None
        self._pace.stop()
        if self._closed:
            return
        self.phase = Phase.IDLE
        if self.batch is None:
            self.updated.emit()
            return
        if self._end is not None and not self._end.error:
            self.batch.plan.skip_waiting()
        if self._again:
            self._continue(self._again_from)
            return
        self.say(self._summary(self.batch))
        self.ended.emit()

    def _summary(self, batch: Batch) -> str:
        if self._end is not None and self._end.error:
            return f'{self._end.error} Resume tries again.'
        counts = self.counts.describe()
        if self._end is None:
            return f'Cancelled: {counts}. Resume does the rest.'
        if batch.plan.reasons:
            return f'Look at the frames below: {counts}.'
        return f'Done: {counts}.'

    def _on_removed(self, event: Any) -> None:
        if self.batch is None or event.value not in self.batch.layers:
            return
        counts = self.counts
        self.batch = None
        if self._worker is not None:
            self._worker.quit()
            self._enter(
                Phase.STOPPING,
                f'Ended, because "{event.value.name}" was removed: {counts.done} of '
                f'{counts.total} frames were done.',
            )
        else:
            self.say('')

    def _enter(self, phase: Phase, text: str) -> None:
        self.phase = phase
        self.sentence = text
        self.updated.emit()
