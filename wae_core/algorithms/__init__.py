"""What each algorithm minimises, and the MMD. It imports the interface of networks, and run."""
