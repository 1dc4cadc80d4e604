"""Tables that the notebooks show."""
