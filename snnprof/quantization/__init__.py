"""1-bit and 1.5-bit weights: formulas, packing, sizes."""
