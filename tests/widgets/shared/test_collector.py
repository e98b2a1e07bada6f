"""Nothing is collected in the threads that Qt's objects do not belong to."""

from __future__ import annotations

import gc

from napari_kdsam.widgets.shared.collector import collector_paused


def test_nothing_is_collected_until_the_last_one_has_ended():
    assert gc.isenabled()
    first, second = collector_paused(), collector_paused()
    first.__enter__()
    assert not gc.isenabled()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_who_has_no_collector_gets_none():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_thread_collects_nothing_while_it_works(annotate):
    session = annotate()
    seen = []
    encode = session.model.encode
    session.model.encode = lambda pixels: (seen.append(gc.isenabled()), encode(pixels))[
        1
    ]
    session.click(60, 60)
    assert seen == [False]
    session.qtbot.waitUntil(gc.isenabled, timeout=10_000)
