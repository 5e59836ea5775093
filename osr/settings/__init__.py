"""What all sections of params.yaml share, and their errors as sentences."""
