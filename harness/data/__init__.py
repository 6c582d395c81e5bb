"""Text to Megatron indexed datasets, each with a manifest that says exactly which tokens it holds."""
