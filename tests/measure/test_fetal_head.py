"""Biometry of fetal heads against drawn ones of known size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_kdsam.core.ellipse import Ellipse
from napari_kdsam.measure.fetal_head import gestational_age, measure_heads


# Weeks of the paper's table of head circumferences.
@pytest.mark.parametrize(
    ('millimetres', 'weeks'), [(80, 13.4), (150, 18.1), (200, 22.2), (300, 33.3)]
)
def test_gestational_age_is_that_of_the_published_table(
    millimetres: float, weeks: float
) -> None:
    assert gestational_age(millimetres) == pytest.approx(weeks, abs=0.15)


@pytest.mark.parametrize('millimetres', [0, 54, 361, math.nan])
def test_what_cannot_be_a_head_has_no_age(millimetres: float) -> None:
    assert math.isnan(gestational_age(millimetres))


@pytest.mark.parametrize(
    ('pixel_size', 'in_mm'),
    [((0.2, 0.2), 1.0), ((0.02, 0.02), 10.0), ((0.2, 0.4), 1.0)],
)
def test_a_drawn_head_has_its_diameters_and_its_circumference(
    pixel_size: tuple[float, float], in_mm: float
) -> None:
    bpd, ofd = 60.0 / in_mm, 80.0 / in_mm
    rows, columns = pixel_size
    labels = np.zeros((500, 500), np.uint16)
    # The occipitofrontal diameter lies along the columns.
    head = Ellipse(240, 250, ofd / 2 / columns, bpd / 2 / rows, 0.0).mask(labels.shape)
    labels[head] = 7
    found = measure_heads(labels, pixel_size, in_mm).loc[7]
    h = (10 / 70) ** 2
    around = math.pi * 70 * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h))) / in_mm
    assert found['bpd'] == pytest.approx(bpd, rel=0.01)
    assert found['ofd'] == pytest.approx(ofd, rel=0.01)
    assert found['hc'] == pytest.approx(around, rel=0.01)
    weeks = gestational_age(around * in_mm)
    assert found['gestational_age'] == pytest.approx(weeks, rel=0.01)


def test_without_a_unit_of_length_there_is_no_age_and_specks_have_nothing() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[20:40, 10:50], labels[0, 0] = 1, 2
    found = measure_heads(labels, (1.0, 1.0), None)
    assert found.loc[1, 'hc'] > 80
    assert math.isnan(found.loc[1, 'gestational_age'])
    assert found.loc[2].isna().all()
    assert measure_heads(labels * 0, (1.0, 1.0), 1.0).empty
