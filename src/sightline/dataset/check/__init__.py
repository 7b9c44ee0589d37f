"""The check of a data set: what would have cost a week, found before training starts. `checking.py` composes it."""
