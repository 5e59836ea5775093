"""Backbones, necks, heads and the open-set model they make."""
