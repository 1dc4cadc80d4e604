"""Datasets as they lie on disk. The only wing that knows TorchGeo and rasterio."""
