"""The whole recipe at a size that two CPU cores train: captioned shapes instead of photographs."""
