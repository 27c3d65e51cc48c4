"""How one TOML file and the environment become one document, each value with its origin; the sections are `config`."""
