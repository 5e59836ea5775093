"""A trained classifier at work: new images, the model registry."""
