# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade.training --out RUN --data SHARDS --minutes 80`: run or resume a training.

`python -m trackshade.training export RUN [FOLDER]` exports the newest checkpoint of a run, finished or not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from pathlib import Path

from ..errors import TrackshadeError
from .config import TrainConfig
from .run import export_run, train


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trackshade.training", description=__doc__)
    hints = typing.get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        kinds = [
            kind for kind in (typing.get_args(hints[field.name]) or (hints[field.name],)) if kind is not type(None)
        ]
        kind = (lambda text: text.lower() in ("1", "true", "yes")) if kinds[0] is bool else kinds[0]
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        parser.add_argument("--" + field.name.replace("_", "-"), type=kind, required=required, default=default)
    if sys.argv[1:2] == ["export"] and len(sys.argv) in (3, 4):
        print(export_run(sys.argv[2], Path(sys.argv[3]) if len(sys.argv) == 4 else None))
        return 0
    try:
        config = TrainConfig(**vars(parser.parse_args()))
        print(train(config, lambda entry: print(json.dumps(entry), flush=True)))
    except TrackshadeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
