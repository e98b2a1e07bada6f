"""Keep each image's session in a file, and bring back those earlier times left."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_kdsam.annotation.commands import as_one
from napari_kdsam.annotation.content_digest import digest_of_image
from napari_kdsam.annotation.label_commands import CommitObject
from napari_kdsam.annotation.session_file import (
    SavedSession,
    SessionFileError,
    read_session,
    sessions_folder,
    write_session,
)
from napari_kdsam.core.errors import counted, excerpt
from napari_kdsam.core.files import sweep_parts
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.background import BackgroundWorker

if TYPE_CHECKING:
    from napari_kdsam.annotation.state import AnnotationState, OverlapPolicy
    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.widgets.annotator.image_record import ImageRecord

_DELAY_MS = 1000
# A session is written in less than a second.
_ABANDONED_SECONDS = 3600
_BESIDE = '.kdsam-sessions'


@dataclass(frozen=True, eq=False)
class Offer:
    """A session of the image that an earlier time left.

    Attributes
    ----------
    saved : SavedSession
    path : pathlib.Path
    time : datetime.datetime
        When it was last written, local time.
    """

    saved: SavedSession
    path: Path
    time: datetime

    @property
    def when(self) -> str:
        """Its time in words."""
        return self.time.strftime('%d %b %Y, %H:%M')

    @property
    def content(self) -> str:
        """What there is to restore, in a few words."""
        state = self.saved.state
        parts: list[str] = []
        if state.objects:
            parts.append(counted(len(state.objects), 'object'))
            if len(self.saved.shape) > 2:
                parts[0] += f' on {counted(len(state.done_frames), "frame")}'
        if state.drafts:
            parts.append('open prompts')
        return ' and '.join(parts)


@dataclass(eq=False)
class _Kept:
    """What is known of one image's file.

    `digest`, `path` and `absorbed`, files whose content is in the next to be written,
    are the thread's.
    """

    record: ImageRecord
    data_version: int
    shape: tuple[int, ...]
    read_frame: Callable[[FrameIndex], Any]
    beside: Path | None = None
    digest: str = ''
    path: Path | None = None
    state: AnnotationState | None = None
    overlap: OverlapPolicy = 'keep'
    waiting: bool = False
    lasting: bool = False
    absorbed: list[Path] = field(default_factory=list)


class Autosave(QObject):
    """Write sessions in a thread of its own: commits at once, prompts within a second.

    Earlier sessions of the images are found in that thread, and offered.
    """

    # From the thread: (record, Offer), and a sentence on what could not be kept.
    _found = Signal(object, object)
    _failed = Signal(str)
    # Files in use by any annotator of this process are not offered to another.
    _in_use: set[Path] = set()

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._kept: dict[ImageRecord, _Kept] = {}
        self._offers: dict[ImageRecord, list[Offer]] = {}
        self._deleted: dict[ImageRecord, list[Offer]] = {}
        # Earlier sessions that need not be offered.
        self._covered: dict[ImageRecord, list[Offer]] = {}
        self._failure = ''
        self._on = True
        self._beside = False
        self._worker = BackgroundWorker('Autosave')
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.save)
        self._found.connect(self._on_found)
        # Work goes on in memory.
        self._failed.connect(workspace.fail)

    @property
    def offers(self) -> tuple[Offer, ...]:
        """Earlier work on the image in view that can be restored, the newest first."""
        record = self._workspace.record
        return tuple(self._offers.get(record, ())) if record is not None else ()

    @property
    def deleted(self) -> tuple[Offer, ...]:
        """Earlier work on the image in view that is deleted when the image is left."""
        record = self._workspace.record
        return tuple(self._deleted.get(record, ())) if record is not None else ()

    def configure(self, on: bool, beside: bool) -> None:
        """Write files or not, and beside the images where that is possible."""
        self._on, self._beside = on, beside

    def watch(self, record: ImageRecord) -> None:
        """Keep the session of an image from now on, and look for an earlier one."""
        kept = self._kept.get(record)
        if kept is None or kept.data_version != record.data_version:
            self._release(record)
            kept = _Kept(
                record,
                record.data_version,
                record.frames.shape,
                record.reader(),
                _folder_beside(record.image) if self._beside else None,
            )
            self._kept[record] = kept
            self._worker.do(self._identify, kept)

    def changed(
        self, record: ImageRecord, before: AnnotationState, after: AnnotationState
    ) -> None:
        """Save a session that has changed, at once if an object came or went."""
        self._wait(record, at_once=before.objects != after.objects)

    def save(self) -> None:
        """Write every session that has changed."""
        self._timer.stop()
        for kept in self._kept.values():
            if kept.waiting:
                kept.waiting = False
                self._worker.do(self._write, kept)

    def restore(self, offer: Offer) -> None:
        """Bring back the objects and prompts of an earlier session, as one step.

        Parameters
        ----------
        offer : Offer
            One of `offers`.

        Raises
        ------
        ImageError
            If the labels cannot hold its objects; the offer stays.
        """
        record, layers = self._workspace.record, self._workspace.layers
        if record is None or layers is None or offer not in self.offers:
            return
        target, above = None, 0
        saved = offer.saved.state
        if saved.objects:
            highest = max(saved.highest_number, *(o.label for o in saved.objects))
            viewer = self._workspace.viewer
            target = record.ensure_target(viewer, layers.preview, highest)
            above = max(target.highest, record.session.state.highest_number)
            target.check_label(above + highest)
        now = record.session.state
        commands = offer.saved.restoring(target, above, now)
        record.session.execute(as_one(commands))
        self._workspace.overlap = offer.saved.overlap
        self._workspace.semantic = record.session.state.semantic
        brought = sum(isinstance(command, CommitObject) for command in commands)
        if left := len(saved.objects) - brought:
            self._workspace.say(
                f'{left} of {len(saved.objects)} earlier objects lie under labels that '
                'are there now, and were left out.'
            )
        self._offers[record].remove(offer)
        kept = self._kept.get(record)
        if kept is not None:
            self._worker.do(self._go_on_in, kept, offer.path, first=not kept.lasting)
            kept.lasting = True
        self._wait(record, at_once=True)

    def keep_file(self, record: ImageRecord) -> None:
        """Keep what was written last of an image, even if nothing of it is left."""
        if record in self._kept:
            self._kept[record].lasting = True

    def delete(self, offer: Offer) -> None:
        """Delete one of `offers`, but not before the image is left."""
        record = self._workspace.record
        if record is not None and offer in self.offers:
            self._offers[record].remove(offer)
            self._deleted.setdefault(record, []).append(offer)

    def undelete(self) -> None:
        """Offer what was deleted again."""
        record = self._workspace.record
        if record is not None:
            for offer in self._deleted.pop(record, []):
                self._add(record, offer)

    def hide_offers(self) -> None:
        """Offer nothing more now; the files stay for another time."""
        record = self._workspace.record
        if record is not None:
            self._offers.pop(record, None)
            self._delete_for_good(record)

    def discard(self, record: ImageRecord) -> None:
        """Delete what is kept of an image whose labels are in a file.

        What the labels do not hold, such as open prompts, stays.
        """
        kept, state = self._kept.get(record), record.session.state
        covered = [
            offer.path
            for offer in self._covered.get(record, ())
            if _is_whole(offer.saved.state, record)
        ]
        own = bool(state.objects) and _is_whole(state, record)
        if kept is None or not (own or covered):
            return
        if own:
            kept.waiting = False
            del self._kept[record]
        self._worker.do(self._delete_saved, kept, own, covered)

    def forget(self, record: ImageRecord) -> None:
        """Save a last time the session of an image that is gone."""
        self._offers.pop(record, None)
        self._covered.pop(record, None)
        self._delete_for_good(record)
        self._release(record)

    def close(self) -> None:
        """Write what has changed; the files stay, but for those that were deleted."""
        self._offers.clear()
        for record in list(self._deleted):
            self._delete_for_good(record)
        for record in list(self._kept):
            self._release(record)
        self._worker.close()

    def _delete_for_good(self, record: ImageRecord) -> None:
        for offer in self._deleted.pop(record, []):
            self._worker.do(self._delete, offer.path)

    def _add(self, record: ImageRecord, offer: Offer) -> None:
        offers = self._offers.setdefault(record, [])
        offers.append(offer)
        offers.sort(key=lambda known: known.time, reverse=True)

    def _wait(self, record: ImageRecord, *, at_once: bool) -> None:
        kept = self._kept.get(record)
        if kept is None or not self._on:
            return
        kept.state, kept.waiting = record.session.state, True
        kept.overlap = self._workspace.overlap
        if at_once:
            self.save()
        elif not self._timer.isActive():
            self._timer.start()

    def _release(self, record: ImageRecord) -> None:
        """Write a last time, and keep the session no longer."""
        kept = self._kept.get(record)
        if kept is not None:
            self.save()
            self._worker.do(self._let_go, kept)
            del self._kept[record]

    def _on_found(self, record: ImageRecord, offer: Offer) -> None:
        if record not in self._kept:
            return
        if _is_there(offer.saved.state, record):
            self._covered.setdefault(record, []).append(offer)
        else:
            self._add(record, offer)
            self._workspace.updated.emit()

    def _identify(self, kept: _Kept) -> None:
        try:
            kept.digest = digest_of_image(kept.read_frame, kept.shape[:-2])
        except Exception as error:  # noqa: BLE001 - readers raise anything
            self._report(
                f'This image cannot be read whole, so autosave is off: {excerpt(error)}'
            )
            return
        try:
            folder = kept.beside or sessions_folder()
            kept.path = folder / f'{kept.digest}-{secrets.token_hex(4)}.json'
            if folder.is_dir():
                sweep_parts(folder, _ABANDONED_SECONDS)
            files = [
                p for p in folder.glob(f'{kept.digest}-*.json') if p not in self._in_use
            ]
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be said
            self._report(f'Earlier sessions cannot be looked for: {excerpt(error)}')
            return
        self._in_use.add(kept.path)
        for path in files:
            try:
                saved = read_session(path, kept.digest)
            except SessionFileError as error:
                self._report(f'An earlier session was not offered: {error}')
                continue
            state = saved.state
            if saved.shape == kept.shape and (state.objects or state.drafts):
                time = datetime.fromtimestamp(_time_of(path))
                self._found.emit(kept.record, Offer(saved, path, time))

    def _write(self, kept: _Kept) -> None:
        state, path = kept.state, kept.path
        if path is None or state is None:
            return
        try:
            if state.objects or state.drafts:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_session(
                    path, SavedSession(kept.digest, kept.shape, state, kept.overlap)
                )
                self._drop_absorbed(kept)
            elif not kept.lasting:
                # Earlier work outlives the undoing of its return, and its layer.
                path.unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be said
            # Tried again with the next change, and at the end.
            kept.waiting = True
            self._report(
                f'Autosave failed, your work is in memory only: {excerpt(error)}'
            )
            return
        self._failure = ''

    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._report(f'{path.name} could not be deleted: {excerpt(error)}')

    def _delete_saved(self, kept: _Kept, own: bool, covered: list[Path]) -> None:
        if own:
            covered = [*covered, *kept.absorbed]
            if kept.path is not None:
                covered.append(kept.path)
            self._let_go(kept)
        for path in covered:
            self._delete(path)

    def _go_on_in(self, kept: _Kept, path: Path, *, first: bool) -> None:
        """Keep a session in the file that it came back from, the first of them."""
        self._in_use.add(path)
        if first and kept.path is not None:
            kept.path, path = path, kept.path
        kept.absorbed.append(path)

    def _drop_absorbed(self, kept: _Kept) -> None:
        while kept.absorbed:
            path = kept.absorbed.pop()
            path.unlink(missing_ok=True)
            self._in_use.discard(path)

    def _let_go(self, kept: _Kept) -> None:
        for path in (kept.path, *kept.absorbed):
            if path is not None:
                self._in_use.discard(path)

    def _report(self, text: str) -> None:
        # A full disk would say so after each click.
        if text != self._failure:
            self._failure = text
            self._failed.emit(text)


def _is_there(state: AnnotationState, record: ImageRecord) -> bool:
    """Whether all of an earlier session is in the labels that the image has now."""
    if state.drafts or record.target is None:
        return False
    return all(
        (record.target.frame(item.frame)[item.region.slices] > 0)[
            item.region.mask()
        ].all()
        for item in state.objects
    )


def _is_whole(state: AnnotationState, record: ImageRecord) -> bool:
    """Whether a session is in the labels that the image has now, label by label."""
    if state.drafts or record.target is None:
        return False
    return all(
        (record.target.frame(item.frame)[item.region.slices] == item.label)[
            item.region.mask()
        ].all()
        for item in state.objects
    )


def _folder_beside(image: Any) -> Path | None:
    """A folder beside the file that an image layer was opened from; None without one."""
    source = getattr(image.source, 'path', None)
    if not source or '://' in str(source):
        return None
    folder = Path(source).parent
    return folder / _BESIDE if folder.is_dir() else None


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
