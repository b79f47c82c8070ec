# SPDX-License-Identifier: GPL-3.0-or-later
"""Shades a shot from Python.

    from pathlib import Path
    from trackshade.client import connect
    from trackshade.config.settings import ShadeSettings
    from trackshade.shot import Shot

    with connect() as client:
        job = client.submit(Shot.load("street.shot"), ShadeSettings(prompt="a street at night, neon, rain"))
        for event in client.events(job):
            print(event)
        client.fetch(job, Path("street-shaded"))

`connect` uses a backend that runs on this machine, or starts a private one that ends with this process. The package
imports numpy, pyzmq, msgpack and the standard library only, so that it can be used inside Blender.
"""

from trackshade.client.backend_process import PrivateBackend, SharedBackend, join_shared, start_private, start_shared
from trackshade.client.client import Client, later
from trackshade.client.discovery import connect, find_served
from trackshade.client.events import JobEvent
from trackshade.client.uploader import Uploader

__all__ = [
    "Client",
    "JobEvent",
    "PrivateBackend",
    "SharedBackend",
    "Uploader",
    "connect",
    "find_served",
    "join_shared",
    "later",
    "start_private",
    "start_shared",
]
