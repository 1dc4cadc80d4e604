"""Figures, HTML reports and the notebook runner. Knows no torch."""
