"""Names of files as text: on a terminal, in a table, and compared with others."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

# Spreadsheets take what begins so for a formula, also in the wide forms of East Asia.
_FORMULA = ('=', '+', '-', '@', '＝', '＋', '－', '＠')
_QUOTE = "'"
# Control characters, halves of characters, and breaks of lines and paragraphs.
_UNSHOWN = ('Cc', 'Cs', 'Zl', 'Zp')
# They turn the direction of writing, so that a name may look like another.
_DIRECTIONS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_UNDECODED = range(0xDC80, 0xDD00)
_USUAL_NAME_BYTES = 255


def printable(text: str) -> str:
    r"""Text with all escaped that would do something to a terminal or a log.

    Control characters, line breaks and changes of direction become ``\x1b``, ``\n`` or
    ``\u202e``; bytes of a file name that are not UTF-8 become ``\xe4``.
    """
    if text.isprintable():
        return text
    return ''.join(map(_shown, text))


def _shown(character: str) -> str:
    if ord(character) in _UNDECODED:
        return f'\\x{ord(character) - 0xDC00:02x}'
    if character in _DIRECTIONS or unicodedata.category(character) in _UNSHOWN:
        return character.encode('unicode_escape').decode('ascii')
    return character


def csv_cell(text: str) -> str:
    """Text for a cell of a table, which no spreadsheet takes for a formula.

    As `printable`, and after a ``'`` where it begins with ``=``, ``+``, ``-``, ``@`` or
    ``'``; `text_of_cell` takes that away.
    """
    shown = printable(text)
    return _QUOTE + shown if shown.startswith((*_FORMULA, _QUOTE)) else shown


def text_of_cell(cell: str) -> str:
    """The text that `csv_cell` was given, as far as it could be printed."""
    return cell.removeprefix(_QUOTE)


def folded(name: str) -> str:
    """Equal for names that some file system does not tell apart."""
    return unicodedata.normalize('NFC', name.casefold())


def longest_name(folder: Path) -> int:
    """Bytes that the name of a file in a folder may have."""
    try:
        return os.pathconf(folder, 'PC_NAME_MAX')
    except (AttributeError, OSError, ValueError):
        return _USUAL_NAME_BYTES


def by_numbers(name: str) -> list[tuple[bool, int, str]]:
    """Key that sorts numbers within names by their value, so that 10 comes after 9."""
    parts = re.findall(r'\d+|\D+', name.casefold())
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in parts
    ]
