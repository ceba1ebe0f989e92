"""Image sets: sources, decoding, preparing, reading. It imports storage."""
