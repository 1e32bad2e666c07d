"""Settings as text: YAML in and out, their schema, signatures they are checked against, conversion of values."""
