"""Joining a Ray cluster: whether its head answers, and which token it wants. session.py alone imports Ray."""
