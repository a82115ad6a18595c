"""What `make bench` runs: speed as ratios against named baselines, in one run on one machine."""
