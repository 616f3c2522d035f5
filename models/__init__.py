"""Networks: architectures, checkpoints, export to ONNX, calibration, training."""
