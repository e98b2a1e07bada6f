"""A contour that is being dragged when the next image of a series is asked for."""

from __future__ import annotations

import numpy as np
from series_window import shape_of

from napari_kdsam.series.entries import ImageStatus
from napari_kdsam.series.label_files import read_label_file


def test_next_takes_the_contour_up_and_no_lesion_is_refused_meanwhile(walking, folder):
    day = walking()
    day.open(folder)
    day.point()
    controller = day.annotator.controller
    assert controller.objects.commit()
    assert controller.contour.open_at((30, 40))
    day.walk.no_lesion()
    assert day.walk.index == 0
    layer = day.annotator.workspace.contour
    # Down and right by ten pixels.
    layer.data = [np.array(vertices) + 10 for vertices in layer.data]
    before = day.annotator.workspace.target_layer.data.copy()
    day.walk.next()
    day.settle()
    assert day.walk.index == 1
    assert day.status(0) is ImageStatus.done
    assert 'KD SAM contour' not in day.viewer.layers
    path = folder / 'labels' / 'img0_labels.png'
    saved = read_label_file(path, '', shape_of(0)).labels
    assert set(np.unique(saved)) == {0, 1}
    first, now = (np.argwhere(each).min(axis=0) for each in (before, saved))
    assert (now - first >= 8).all()
