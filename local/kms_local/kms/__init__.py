"""A regional key service that behaves like AWS KMS for symmetric keys, single-Region and multi-Region."""
