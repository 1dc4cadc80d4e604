"""Scores, intervals, overlap strata, coherence and the claims ledger."""
