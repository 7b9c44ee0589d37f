"""Search for good settings: a declared space, trials that are normal runs, a study that can go on."""
