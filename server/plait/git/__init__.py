"""What Plait knows of git; nothing outside this package starts it.

Everything here blocks: callers with an event loop run it in a thread.
"""
