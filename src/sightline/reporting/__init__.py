"""What was measured, as pages and plots: the evaluation's numbers put into the pages and charts of `view`."""
