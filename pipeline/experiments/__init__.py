"""Named settings and sweeps, and how they are run."""
