"""Clients of Redis. All rungs of a run use the same one, as with `crud_impl.clients`."""
