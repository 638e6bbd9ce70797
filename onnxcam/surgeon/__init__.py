"""The surgeon: takes a model apart, finds what matters, and returns a new model. It never runs one."""
