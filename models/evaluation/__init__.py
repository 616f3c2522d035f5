"""Evaluation of text-to-image models: IS, FID and CLIP score by the paper's protocol."""
