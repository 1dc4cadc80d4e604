"""Archives on disk: readers built on TorchGeo, official lists, verification, download and simulation."""
