"""Pretraining, feature extraction and probes on packed data."""
