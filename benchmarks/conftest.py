"""Benchmarks use the servers that the tests use."""

from tests.conftest import house, postgres_url, redis_url

__all__ = ["house", "postgres_url", "redis_url"]
