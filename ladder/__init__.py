"""The ladder: one folder a rung, discovered and ordered by parent; a rung is what its RUNG value says."""
