"""EdgeFusion NPU toolchain: from a text-to-image diffusion checkpoint to a phone NPU bundle."""

__version__ = "0.1.0"
