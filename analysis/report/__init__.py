"""`bigwae report`: one page that says what a study has found, and how sure that is. It reads, and trains nothing."""
