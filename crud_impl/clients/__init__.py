"""Clients of the database. Every rung of a run has the same: `idiomatic` is how most people ask, `lean` how little it
can cost. A statement is the same text by either, and prepared by either when it is used the second time."""
