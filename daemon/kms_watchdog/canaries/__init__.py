"""The canaries: one question a file, each asked through the crypto core."""
