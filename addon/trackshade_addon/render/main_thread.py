# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Blender's main thread may do, asked for from the thread of a render."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import bpy

from trackshade.core.errors import CancelledError

T = TypeVar("T")
LOOK_EVERY = 0.02  # seconds between two looks at whether it is done


def on_main(call: Callable[[], T], cancelled: Callable[[], bool]) -> T:
    """Runs `call` on the main thread and waits for it. Without a window a render is on that thread itself.

    Raises:
        Cancelled: `cancelled` said so before it was done; it is then not begun any more. And what the call raises.
    """
    if threading.current_thread() is threading.main_thread():
        return call()
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits for it
            future.set_exception(error)

    bpy.app.timers.register(run)
    while not future.done():
        if cancelled() and future.cancel():
            raise CancelledError
        time.sleep(LOOK_EVERY)
    return future.result()
