"""Keep each image's session in a file, and find the one left by an earlier time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_kdsam.annotation.content_digest import digest_of_image
from napari_kdsam.annotation.session_file import (
    SavedSession,
    SessionFileError,
    read_session,
    sessions_folder,
    write_session,
)
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.shared.background import BackgroundWorker

if TYPE_CHECKING:
    from napari_kdsam.annotation.state import AnnotationState
    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.widgets.annotator.image_record import ImageRecord

_DELAY_MS = 1000
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

    def describe(self) -> str:
        """One sentence on what there is to restore."""
        state = self.saved.state
        parts = []
        if state.objects:
            count = len(state.objects)
            parts.append(f'{count} object{"s" if count > 1 else ""}')
        if state.drafts:
            parts.append('open prompts')
        when = self.time.strftime('%d %b %Y, %H:%M')
        return f'Earlier work on this image: {" and ".join(parts)} ({when}).'


@dataclass(eq=False)
class _Kept:
    """What is known of one image's file; `digest` and `path` are the thread's."""

    record: ImageRecord
    data_version: int
    shape: tuple[int, ...]
    read_frame: Callable[[FrameIndex], Any]
    beside: Path | None = None
    digest: str = ''
    path: Path | None = None
    state: AnnotationState | None = None
    waiting: bool = False


class Autosave(QObject):
    """Write sessions in a thread of its own: commits at once, prompts within a second.

    Attributes
    ----------
    found : Signal
        (record, Offer) when an earlier session of an image was found.
    failed : Signal
        (sentence,) when a session could not be kept; work goes on in memory.
    """

    found = Signal(object, object)
    failed = Signal(str)
    # Files in use by any annotator of this process are not offered to another.
    _in_use: set[Path] = set()

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[ImageRecord, _Kept] = {}
        self._failure = ''
        self._on = True
        self._beside = False
        self._worker = BackgroundWorker('Autosave')
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.save)

    def configure(self, on: bool, beside: bool) -> None:
        """Write files or not, and beside the images where that is possible."""
        self._on, self._beside = on, beside

    def watch(self, record: ImageRecord) -> None:
        """Keep the session of an image from now on, and look for an earlier one."""
        kept = self._kept.get(record)
        if kept is None or kept.data_version != record.data_version:
            self.forget(record)
            kept = _Kept(
                record,
                record.data_version,
                record.frames.shape,
                record.frames.reader(),
                _folder_beside(record.image) if self._beside else None,
            )
            self._kept[record] = kept
            self._worker.do(self._identify, kept)

    def changed(self, record: ImageRecord, *, at_once: bool) -> None:
        """Say that a session has changed; write it now, or soon."""
        kept = self._kept.get(record)
        if kept is None or not self._on:
            return
        kept.state, kept.waiting = record.session.state, True
        if at_once:
            self.save()
        elif not self._timer.isActive():
            self._timer.start()

    def save(self) -> None:
        """Write every session that has changed."""
        self._timer.stop()
        for kept in self._kept.values():
            if kept.waiting:
                kept.waiting = False
                self._worker.do(self._write, kept)

    def adopt(self, record: ImageRecord, offer: Offer) -> None:
        """Go on in the file of a restored session."""
        kept = self._kept.get(record)
        if kept is not None:
            self._worker.do(self._take_over, kept, offer.path)

    def discard(self, offer: Offer) -> None:
        """Delete an earlier session."""
        self._worker.do(offer.path.unlink, missing_ok=True)

    def forget(self, record: ImageRecord) -> None:
        """Write a last time, and keep the session no longer."""
        kept = self._kept.get(record)
        if kept is not None:
            self.save()
            self._worker.do(self._let_go, kept)
            del self._kept[record]

    def close(self) -> None:
        """Write what has changed; the files stay."""
        for record in list(self._kept):
            self.forget(record)
        self._worker.close()

    def _identify(self, kept: _Kept) -> None:
        try:
            kept.digest = digest_of_image(kept.read_frame, kept.shape[:-2])
        except Exception as error:  # noqa: BLE001 - readers raise anything
            self._report(
                f'This image cannot be read whole, so autosave is off: {error}'
            )
            return
        folder = kept.beside or sessions_folder()
        files = [
            p for p in folder.glob(f'{kept.digest}-*.json') if p not in self._in_use
        ]
        kept.path = folder / f'{kept.digest}-{secrets.token_hex(4)}.json'
        self._in_use.add(kept.path)
        for path in sorted(files, key=_time_of, reverse=True):
            try:
                saved = read_session(path, kept.digest)
            except SessionFileError as error:
                self._report(f'An earlier session was not offered: {error}')
                continue
            if saved.shape == kept.shape:
                time = datetime.fromtimestamp(_time_of(path))
                self.found.emit(kept.record, Offer(saved, path, time))
                return

    def _write(self, kept: _Kept) -> None:
        state, path = kept.state, kept.path
        if path is None or state is None:
            return
        try:
            if state.objects or state.drafts:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_session(path, SavedSession(kept.digest, kept.shape, state))
            else:
                path.unlink(missing_ok=True)
        except (KDSAMError, OSError) as error:
            # Tried again with the next change, and at the end.
            kept.waiting = True
            self._report(f'Autosave failed, your work is in memory only: {error}')
            return
        self._failure = ''

    def _take_over(self, kept: _Kept, path: Path) -> None:
        own, kept.path = kept.path, path
        self._in_use.add(path)
        if own is not None:
            own.unlink(missing_ok=True)
            self._in_use.discard(own)

    def _let_go(self, kept: _Kept) -> None:
        if kept.path is not None:
            self._in_use.discard(kept.path)

    def _report(self, text: str) -> None:
        # A full disk would say so after each click.
        if text != self._failure:
            self._failure = text
            self.failed.emit(text)


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
