"""One run's folder, work/<run_id>: its attempts and training checkpoints, and how far each attempt came."""
