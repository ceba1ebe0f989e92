"""The training loop, its state, packs, Adam. It imports algorithms, data, networks and storage."""
