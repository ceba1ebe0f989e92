"""Where runs are trained: executors, the worker, its attempts; tune.py and sharded/team.py alone import Ray.

It imports settings and results.
"""
