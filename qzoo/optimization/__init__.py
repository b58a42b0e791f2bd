"""What happens between calibration and evaluation: steps that change weights, and never code; a file a step."""
