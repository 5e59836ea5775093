"""The six DVC stages and what they share: thin entry points over `osr`."""

from pipeline.workspace.interrupts import while_loading

while_loading()
