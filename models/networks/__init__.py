"""Kinds of networks: what each is as a graph, whichever pipeline it is part of."""
