"""edgevit: small, fast, proven builds of trained Transformers for the devices they will run on."""
