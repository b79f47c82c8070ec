# SPDX-License-Identifier: GPL-3.0-or-later
"""Shade a shot from Python:

    from pathlib import Path
    from trackshade.client import connect
    from trackshade.config.settings import ShadeSettings
    from trackshade.shot import Shot

    with connect() as client:
        job = client.submit(Shot.load("street.shot"), ShadeSettings(prompt="a street at night, neon, rain"))
        for event in client.events(job):
            print(event)
        client.fetch(job, Path("street-shaded"))

`connect` uses a backend that runs on this machine, else it starts a private one that ends with this process.
Light ring: imports numpy, pyzmq, msgpack and the standard library only.
"""

from trackshade.client.client import Client, later
from trackshade.client.connecting import connect, served
from trackshade.client.events import Event
from trackshade.client.launch import PrivateBackend, start_private
from trackshade.client.shared import SharedBackend, join, share
from trackshade.client.uploader import Uploader

__all__ = ["Client", "Event", "PrivateBackend", "SharedBackend", "Uploader", "connect", "join", "later", "served",
           "share", "start_private"]  # fmt: skip
