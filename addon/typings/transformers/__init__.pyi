# Names of this package have no types here: reading all of its modules would make a type check last much longer.
from typing import Any

def __getattr__(name: str) -> Any: ...
