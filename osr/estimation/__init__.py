"""What a run without unknown images can say of those to come: known classes are left out in turn."""
