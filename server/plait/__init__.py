"""Plait runs many coding agents in parallel, each in its own git worktree, and brings their work back by hunks."""

__version__ = "0.1.0"
