"""What a launch on a cluster writes of its nodes."""
