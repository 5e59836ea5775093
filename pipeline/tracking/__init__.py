"""The MLflow row of a run. It watches: nothing here changes a number."""
