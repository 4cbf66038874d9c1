"""Knows the editor's words: each feature unpacks a request, makes one call into the engine and converts the
answer.
"""
