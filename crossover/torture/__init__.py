"""Torture: a rung under load while its parts are killed, paused, cut off and lied to; then every promise is checked."""
