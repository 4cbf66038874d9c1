"""Translators between Plait and the agents: how to launch one, what its output means; none of them starts a process."""
