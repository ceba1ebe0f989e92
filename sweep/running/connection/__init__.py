"""Joining a Ray cluster: whether its head answers, and which token it wants; it imports no Ray."""
