"""Training of the networks that are deployed: block-removed, latent-consistency and decoder
distillation, around one loop (``trainer``)."""
