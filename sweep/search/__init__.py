"""What is trained next: the fixed plan, random or Optuna proposals, ASHA. It imports settings and results."""
