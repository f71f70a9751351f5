"""Clients of Redis. Every rung of a run has the same, as with `crud_impl.clients`."""
