"""Clients of the database: `idiomatic` follows common practice, `lean` is tuned for low CPU. All rungs of a run use
the same one. Both send the same SQL text, and both prepare a statement at its second use, again after a ROLLBACK."""
