"""An embedding store that cannot be written, in the window."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeModel

from napari_kdsam import Predictor
from napari_kdsam.inference.embedding_store import EmbeddingStore
from napari_kdsam.widgets.annotator import prediction


@pytest.fixture
def fake_factory(fake_model: FakeModel, tmp_path: Path) -> Callable[[str, str], Any]:
    """Make predictors with a store in whose place a file is by now."""
    store = EmbeddingStore(tmp_path / 'store')
    shutil.rmtree(store.folder)
    store.folder.write_text('full')
    return lambda *_: Predictor(fake_model, store=store)  # type: ignore[arg-type]


def test_a_store_that_cannot_be_written_is_said_once_and_masks_go_on(
    annotate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    monkeypatch.setattr(prediction, 'show_warning', notices.append)
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.click(60, 150)
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1
    assert session.labels[60, 150] == 2
    (notice,) = notices
    assert 'store cannot be written' in notice
    assert 'Everything else goes on.' in notice
