"""Names of files as text: shown, in tables, and within the room there is."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.core.files import PART, NameTooLongError, atomic_path, write_json
from napari_kdsam.core.names import csv_cell, folded, printable, text_of_cell


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('Läsion 3.png', 'Läsion 3.png'),
        ('画像\u3000\N{FAMILY}.png', '画像\u3000\N{FAMILY}.png'),
        ('a\x1b]0;title\x07', 'a\\x1b]0;title\\x07'),
        ('a\nError: b\t\x9b', 'a\\nError: b\\t\\x9b'),
        ('a\u2028b', 'a\\u2028b'),
        ('gpj\u202e.png', 'gpj\\u202e.png'),
        (os.fsdecode(b'L\xe4sion'), 'L\\xe4sion'),
        ('\ud800', '\\ud800'),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@settings(max_examples=50)
@given(st.text(st.characters(codec=None)))
def test_a_cell_is_no_formula_and_is_read_back(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(text), 'next'])
    file.getvalue().encode('utf-8')
    ((cell, _),) = csv.reader(file.getvalue().splitlines())
    assert not cell.startswith(('=', '+', '-', '@', '\t', '\r'))
    assert text_of_cell(cell) == printable(text)


def test_names_that_differ_in_case_or_unicode_form_only_are_one() -> None:
    assert folded('La\u0308sion.PNG') == folded('L\xe4sion.png')


@pytest.mark.parametrize('name', ['x' * 255, 'ä' * 127, 'a.png'])
def test_a_name_as_long_as_may_be_is_written_beside_itself(
    tmp_path: Path, name: str
) -> None:
    with atomic_path(tmp_path / name) as part:
        assert PART.fullmatch(part.name)
        part.write_text('whole')
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(NameTooLongError, match='its name is too long'),
        atomic_path(tmp_path / ('x' * 256)) as part,
    ):
        part.write_text('whole')
    assert not list(tmp_path.iterdir())


def test_json_holds_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b'L\xe4sion \xc3\xa9.png')
    write_json(tmp_path / 'a.json', {'name': name})
    text = (tmp_path / 'a.json').read_text(encoding='utf-8')
    assert 'é' in text
    assert json.loads(text) == {'name': name}
