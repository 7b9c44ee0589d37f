"""What is deployed: weights, configuration and class names in one file that describes itself."""
