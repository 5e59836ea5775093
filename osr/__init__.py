"""Open-set recognition: splits, networks, detectors, metrics and figures. Arrays in, arrays out."""
