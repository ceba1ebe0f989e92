"""The algorithms, a file each, their losses, and the MMD. They import hyperparameters and protocol."""
