"""One run on several accelerators: the processes that share its batches with the worker that attempts it."""
