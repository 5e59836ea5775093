"""Published class splits by name."""
