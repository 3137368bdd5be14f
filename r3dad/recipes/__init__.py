"""What the Detector runs: one file per recipe, each from good scans to point scores."""
