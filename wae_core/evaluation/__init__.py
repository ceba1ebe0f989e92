"""What a checkpoint is worth: features, Fréchet distance, sharpness, selection.

It imports algorithms, data and networks.
"""
