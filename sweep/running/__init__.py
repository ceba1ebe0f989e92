"""Where runs are trained: executors, the worker, its attempts; tune.py alone imports Ray.

It imports settings and results.
"""
