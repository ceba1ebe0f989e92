"""Reading the results: load, plots, notebooks."""
