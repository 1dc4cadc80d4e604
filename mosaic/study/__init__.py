"""The study itself: what the notebooks call. Each module serves one notebook; ``run`` serves them all."""
