"""Families of pipelines, one a file: which networks, what each is given, how often it runs."""
