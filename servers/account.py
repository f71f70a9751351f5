"""The account of servers that refuse to run as root."""

import os
import pwd

from servers.server import Unusable


def not_root(title: str, variable: str) -> pwd.struct_passwd | None:
    """None: our own, unless we are root. Then it is `nobody`."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise Unusable(
            f"{title} does not run as root and there is no user 'nobody': run as another user or set {variable}."
        ) from None
