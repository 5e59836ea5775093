"""Every number that an open-set classifier is judged by, thresholds, and how sure each number is."""
