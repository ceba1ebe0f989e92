"""Where runs are trained: executors, the worker, its attempts; connection/session.py, nodes/looking.py, tune.py and
sharded/team.py alone import Ray.

It imports settings and results.
"""
