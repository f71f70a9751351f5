"""Torture: kills, pauses and cuts off the parts of a rung under load, gives it faulty feeds, checks every promise."""
