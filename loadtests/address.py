"""Where requests go and what they bear: the address of a target, its bearer token, a request as bytes."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtests.plan import BadPlan


class Address(NamedTuple):
    url: str  # as it was given, without a slash at its end
    tls: bool
    host: str
    port: int
    authority: str  # what the field Host says
    prefix: str  # of every path

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
        """The bytes to send. A body is JSON, unless the headers say otherwise."""
        sent = {"Host": self.authority, **headers}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            sent["Content-Length"] = str(len(body))
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def address_of(url: str | None) -> Address:
    """Raises BadPlan, which never repeats the URL: there may be a secret in it."""
    url = (url or "").rstrip("/")
    if "@" in url:
        raise BadPlan("The URL of a target holds a password, which results would keep: use CROSSOVER_TOKEN.")
    try:
        parts = urlsplit(url)
        host, tls = parts.hostname or "", parts.scheme == "https"
        port = parts.port if parts.port is not None else 443 if tls else 80
        sound = parts.scheme in ("http", "https") and bool(host.encode("idna")) and port > 0
        sound = sound and not re.search(r"[^!-~]|[?#\\]", url)
    except ValueError:
        sound = False
    if not sound:
        raise BadPlan("A target's URL is http://host:port or https://host:port, perhaps with a path, and nothing else.")
    return Address(url, tls, host, port, parts.netloc, parts.path)


def bearer_of(token: str | None) -> str | None:
    """The token without the white space around it, as of a file that ends with a line; None where there is none."""
    token = (token or "").strip()
    if re.search(r"[^!-~]", token):
        raise BadPlan("The token (CROSSOVER_TOKEN or --token) is printable ASCII without spaces, and this one is not.")
    return token or None


def authorization(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
