"""Lowering rules: one module a family of op kinds, each a list of tilings and a way to emit one."""
