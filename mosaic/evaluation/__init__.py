"""Features, probes, metrics, intervals, label overlap, coherence and claims."""
