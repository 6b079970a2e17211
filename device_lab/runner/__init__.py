"""Programs that time one model in one fresh process, and what they print."""
