# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs all benchmarks, one after the other and each in a process of its own, and prints one table.

    python tests/benchmarks/run.py [NAME ...]    only those whose file name has NAME in it
    python tests/benchmarks/run.py --write       also puts the table into README.md beside this file

Ends with 1 where a figure misses its target.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


def main(arguments: list[str]) -> int:
    names = [word for word in arguments if not word.startswith("--")]
    lines = ["| | figure | target | |", "|---|---|---|---|"]
    missed = 0
    for path in sorted(HERE.glob("bench_*.py")):
        if names and not any(name in path.stem for name in names):
            continue
        began = time.monotonic()
        print(f"{path.stem} ...", end=" ", file=sys.stderr, flush=True)
        found = _rows(path)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        for name, value, target in found:
            verdict = _verdict(value, target)
            missed += verdict == "missed"
            lines.append(f"| {name} | {value} | {target} | {verdict} |")
    table = "\n".join(lines)
    print(table)
    if "--write" in arguments:
        _write(table)
    return 1 if missed else 0


def _rows(path: Path) -> list[list[str]]:
    code = f"import json, sys; sys.path.insert(0, {str(HERE)!r}); import {path.stem} as bench; "
    code += "print('\\n' + json.dumps(bench.rows()), flush=True); import os; os._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return [[path.stem, f"ended with {done.returncode}", "> 0"]]
    return json.loads(done.stdout.splitlines()[-1])


def _verdict(value: str, target: str) -> str:
    """ "" where there is no target, else whether the value's first number keeps it."""
    wanted = re.match(r"\s*(<=|>=|<|>|≤|≥)\s*([\d.,]+)", target.replace("under", "<").replace("at most", "<="))
    found = re.search(r"-?\d+(?:\.\d+)?", value.replace(",", ""))
    if wanted is None:
        return ""
    sign = {"≤": "<=", "≥": ">="}.get(wanted[1], wanted[1])
    limit = float(wanted[2].replace(",", ""))
    return "kept" if found is not None and COMPARE[sign](float(found[0]), limit) else "missed"


def _write(table: str) -> None:
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    when = time.strftime("%Y-%m-%d")
    page.write_text(f"{head}{BEGIN}\n{when}, {machine}:\n\n{table}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
