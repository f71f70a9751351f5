"""CRUD with a cache: answers are kept in Redis until a command makes them stale."""
