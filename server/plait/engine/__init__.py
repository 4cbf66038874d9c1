"""Owns the state and performs the actions that the core decides on."""
