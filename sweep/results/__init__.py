"""The results folder: schema, records, tables, plan, study file, attempts, lock. It imports settings."""
