# Blender's modules describe themselves at run time only; to the type checker everything in them is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
