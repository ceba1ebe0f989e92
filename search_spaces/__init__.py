"""What may be tried: hyperparameter search spaces as YAML data, and their typed reader."""

from search_spaces.sentences import SpaceError
from search_spaces.space import SearchSpace, load

__all__ = ["SearchSpace", "SpaceError", "load"]
