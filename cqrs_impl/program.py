"""Names the program that makes documents of events: another may make others of the same events."""

from hashlib import sha256
from pathlib import Path
from types import ModuleType


def digest_of(*modules: ModuleType) -> str:
    """One digest of their sources."""
    return sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()
