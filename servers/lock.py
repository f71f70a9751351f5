"""Prints the lock of a server's jars, for who pins another version: what jgo resolves, with sums of what was fetched.

python -m servers.lock org.apache.kafka:kafka_2.13:4.4.0 org.slf4j:slf4j-simple:1.7.36 > servers/locks/kafka-4.4.0.txt
"""

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.maven import Dependency, MavenContext


def lock(coordinates: list[str], cache: Path) -> list[str]:
    """Of what the coordinates need to run, themselves included."""
    context = MavenContext(repo_cache=cache, timeout=60)
    split = [coordinate.split(":") for coordinate in coordinates]
    wanted = [Dependency(context.project(group, name).at_version(version).artifact()) for group, name, version in split]
    named, needed = context.resolver.resolve(wanted)
    running = [*named, *(one for one in needed if one.scope in ("compile", "runtime"))]
    lines = []
    for one in sorted(running, key=str):
        content = one.artifact.resolve().read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        lines.append(f"{sha256} {len(content)} {one.groupId}:{one.artifactId}:{one.version}")
    return lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(f"# of {' '.join(sys.argv[1:])}", *lock(sys.argv[1:], Path(folder)), sep="\n")
