"""Stored models scored again, without training: by other features, on more samples, against another reference.

It imports settings, results, search, running and reports.
"""
