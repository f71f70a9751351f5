"""The API described: `openapi.yaml` as JSON, and as a page.

The page is ours, because no viewer on PyPI is alive, brings its own files and needs no second web framework:
swagger-ui-bundle is abandoned (2023), its fork had one release, fastapi-swagger needs FastAPI. Ours has no script, so
its policy allows none, and a test can read it without a browser.
"""

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
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters["code"] = _code
    template = environment.from_string(files("contract.http").joinpath("docs.html").read_text("utf-8"))
    return template.render(spec=_resolved(openapi())).encode()


def _resolved(part: Any) -> Any:
    """The description with every `$ref` replaced by what it points to."""
    if isinstance(part, list):
        return [_resolved(item) for item in part]
    if not isinstance(part, dict):
        return part
    resolved = {name: _resolved(value) for name, value in part.items() if name != "$ref"}
    if "$ref" in part:
        target: Any = openapi()
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        resolved = _resolved(target) | resolved
    return resolved


def _code(text: str | None) -> Markup:
    """Text in which `this` is shown as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text or ""))))
