"""A package that is not installed, for a test."""

from __future__ import annotations

import sys

import pytest


def take_away(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let a package be missing: its parts, too, which may have been imported before."""
    loaded = [name for name in sys.modules if name.startswith(f'{package}.')]
    for name in (package, *loaded):
        monkeypatch.setitem(sys.modules, name, None)
