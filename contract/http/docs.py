"""The API described: `openapi.yaml` as JSON, and as a page that needs nothing from another host."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import yaml
from jinja2 import Environment
from markupsafe import Markup, escape

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
    environment.filters |= {f.__name__: f for f in (resolve, pretty, code, limits, example)}
    template = environment.from_string(files("contract.http").joinpath("docs.html").read_text("utf-8"))
    return template.render(spec=openapi()).encode()


# The filters of the template.


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the description, or what its `$ref` points to."""
    if "$ref" not in part:
        return part
    found: Any = openapi()
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict), "a reference points to an object"
    return found


def pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def code(text: str | None) -> Markup:
    """Text in which `this` is shown as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text or ""))))


def limits(part: dict[str, Any]) -> str:
    """What a schema allows, in words."""
    schema = resolve(part)
    said = [str(schema.get("format", "")).upper() or schema.get("type", "")]
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " code points"),
        ("minItems", "maxItems", " items"),
    ):
        if low in schema and high in schema and "format" not in schema:
            said.append(f"{schema[low]:,} to {schema[high]:,}{unit}")
    if "default" in schema:
        said.append(f"{schema['default']} if not given")
    return f"({', '.join(said)})"


def example(content: dict[str, Any]) -> object:
    """The example of a content, or of its schema."""
    return content.get("example") or resolve(content["schema"]).get("example")
