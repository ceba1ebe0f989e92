"""Many models: plan, driver, worker, results, tracking."""
