"""The ladder: one folder per rung, each with a value RUNG; rungs are discovered and ordered by parent."""
