"""Files on a disk or in an object store, and checkpoints made of them. It imports nothing of ours."""
