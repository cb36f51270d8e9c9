"""Who drives: units over workers, with cancel, limits and retries."""
