"""A soak of Floe on a cluster: many queries of mixed fates, with everything killed at seeded moments."""
