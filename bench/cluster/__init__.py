"""Measures of Floe on Kubernetes; see bench/README.md."""
