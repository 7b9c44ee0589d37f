"""Pictures and labels on disk: the dataset folder, its split, statistics, and what training reads of it."""
