"""The real servers that rungs stand on, one file each, and the supervisor that keeps their processes."""
