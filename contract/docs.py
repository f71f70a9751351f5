"""The API described: `openapi.yaml` as JSON, and as a page that needs nothing from another host."""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import yaml
from jinja2 import Environment

POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")


@cache
def openapi() -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    spec = yaml.load(files("contract").joinpath("openapi.yaml").read_text("utf-8"), loader)
    assert isinstance(spec, dict), "openapi.yaml is one document with named parts"
    return spec


@cache
def openapi_json() -> bytes:
    return msgspec.json.encode(openapi())


@cache
def page() -> bytes:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["resolve"] = _resolve
    environment.filters["pretty"] = _pretty
    template = environment.from_string(files("contract").joinpath("docs.html").read_text("utf-8"))
    return template.render(spec=openapi()).encode()


def _resolve(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the description, or what its `$ref` points to."""
    if "$ref" not in part:
        return part
    found: Any = openapi()
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict), "a reference points to an object"
    return found


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
