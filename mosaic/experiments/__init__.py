"""The grid of trials, and what runs it."""
