"""Features, probes, metrics, bootstrap intervals, label overlap, coherence and claims."""
