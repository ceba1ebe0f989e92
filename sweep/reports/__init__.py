"""What the terminal shows: progress, status, ledger, cost, dry run. It imports settings and results."""
