"""Where the command line starts: of the variables around it, only those named here are let in.

Any other could change what private servers do, what is recorded or what is drawn: settings of proxies, libpq, git,
Python, locales, matplotlib. The standard library alone is imported, as a PYTHONPATH may put other modules before ours.
"""

import logging
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
# What every process of ours may inherit: where things are, and what the user's own servers ask for. Of libpq's
# variables only those that carry credentials or demand security, and of these none where PostgreSQL is private.
INHERITED = {
    *("PATH", "HOME", "TMPDIR", "XDG_STATE_HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "PGPASSWORD", "PGPASSFILE", "PGREQUIREAUTH", "PGCHANNELBINDING"),
    *("PGSSLMODE", "PGSSLNEGOTIATION", "PGSSLCERT", "PGSSLKEY", "PGSSLCERTMODE", "PGSSLROOTCERT", "PGSSLCRL"),
    *("PGSSLCRLDIR", "PGSSLSNI", "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION"),
    *("CROSSOVER_RUNGS", "XDG_CACHE_HOME"),
}
# What the command alone is told: its terminal. Addresses (`…_URL`) and what begins with CROSSOVER_ are its options.
TERMINAL = {"TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED"}
# What `crossover servers` is told besides, which may fetch what is missing: pip's own settings and the way out.
FETCHING = re.compile(r"PIP_\w+|\w+_PROXY|\w+_proxy|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE")
# The same for all. A hash seed of its own would give each start sets and dictionaries of another speed.
FIXED = {
    "PYTHONPATH": str(PROJECT),
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "LC_ALL": "C",
    "TZ": "UTC",
    "MATPLOTLIBRC": os.devnull,
}


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a process of ours gets of the variables around this one."""
    return {name: value for name, value in environ.items() if name in INHERITED} | FIXED


def let_in(environ: Mapping[str, str], command: str = "") -> dict[str, str]:
    """What the command itself keeps of the variables around it."""
    own = {
        name: value
        for name, value in environ.items()
        if name in TERMINAL
        or name.endswith("_URL")
        or name.startswith("CROSSOVER_")
        or (command == "servers" and FETCHING.fullmatch(name))
    }
    return own | inherited(environ)


def enter() -> None:
    """Shut out everything else; start over in another Python where this one was given settings of its own."""
    kept = let_in(os.environ, *sys.argv[1:2])
    told = any(name.startswith("PYTHON") and kept.get(name) != value for name, value in os.environ.items())
    if told or sys.getfilesystemencoding() != "utf-8":
        # -P: what lies in the working directory is no module of ours.
        os.execve(sys.executable, [sys.executable, "-P", "-m", "crossover.start", *sys.argv[1:]], kept)
    for name in os.environ.keys() - kept.keys():
        del os.environ[name]  # for libraries in C too
    os.environ.update(kept)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, nobody learns how a child ended
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what is blocked here is blocked in every child too
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it has no home it can write to, or a style it cannot read


def main() -> None:
    enter()
    from crossover.cli import main as run

    run()


if __name__ == "__main__":
    main()
