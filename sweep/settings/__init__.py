"""From key=value words to one typed, checked object; the only room that imports Hydra. It imports no other room."""
