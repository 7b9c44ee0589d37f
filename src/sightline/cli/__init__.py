"""The commands: parse, call one Python function, print its result."""
