"""Which image a name in a prompts file means."""

from __future__ import annotations

import unicodedata

import pytest

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.image_names import match_names, name_parts

P1, P2 = '/data/scans/p1/frame_001.png', '/data/scans/p2/frame_001.png'


def names_of(names: list[str], *locations: str) -> dict[str, str]:
    return match_names(names, locations, 'boxes.csv').name_of


def test_a_name_means_the_image_whose_path_ends_with_it() -> None:
    assert names_of(['frame_001.png'], P1) == {P1: 'frame_001.png'}
    for one, two in (
        ('p1/frame_001.png', 'p2/frame_001.png'),
        ('scans\\p1\\frame_001.png', 'p2\\frame_001.png'),
        (P1, P2),
        ('./p1/frame_001.png', '../scans/p2/frame_001.png'),
    ):
        assert names_of([one, two], P2, P1) == {P1: one, P2: two}
    url = 's3://bucket/p1/frame_001.png'
    assert names_of(['p1/frame_001.png'], url) == {url: 'p1/frame_001.png'}


def test_the_longer_name_is_the_better_one() -> None:
    names = ['frame_001.png', 'p1/frame_001.png']
    assert names_of(names, P1, P2) == {P1: names[1], P2: names[0]}


def test_an_image_is_not_given_what_is_for_another_folder() -> None:
    found = match_names(['p1/frame_001.png'], [P1, P2], 'boxes.csv')
    assert found.name_of == {P1: 'p1/frame_001.png'}
    found = match_names(['p1/frame_001.png', 'p3/frame_001.png'], [P2], 'boxes.csv')
    assert found.name_of == {}
    assert found.unfound == ('p1/frame_001.png', 'p3/frame_001.png')


def test_an_only_file_name_in_another_folder_is_taken_and_told() -> None:
    found = match_names(['train/frame_001.png'], [P1], 'boxes.csv')
    assert found.name_of == {P1: 'train/frame_001.png'}
    assert found.elsewhere == (('train/frame_001.png', P1),)
    assert found.unfound == ()


def test_a_name_that_may_be_several_images_is_refused() -> None:
    with pytest.raises(PromptError, match=r'p1/frame_001\.png, p2/frame_001\.png'):
        names_of(['frame_001.png'], P1, P2)
    # One image in two notations is one image.
    assert len(names_of(['a.png'], 'a.png', './a.png')) == 2


def test_composed_and_decomposed_letters_are_equal() -> None:
    name = 'Läsion_é.png'
    apart = unicodedata.normalize('NFD', name)
    assert name != apart
    for given, there in ((name, apart), (apart, name)):
        assert names_of([given], f'/x/{there}') == {f'/x/{there}': given}
    with pytest.raises(PromptError, match='are one name'):
        names_of([name, apart], f'/x/{name}')


def test_other_letters_and_empty_names_are_other_images() -> None:
    found = match_names(['A1.png', '', '/', 'a1.PNG'], ['/x/a1.png'], 'boxes.csv')
    assert found.name_of == {}
    assert found.unfound == ('A1.png', '', '/', 'a1.PNG')
    assert name_parts('a/../b/./c.png') == ('b', 'c.png')
