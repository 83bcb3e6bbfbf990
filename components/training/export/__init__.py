"""From a checkpoint to a bundle: ONNX, int8, the choice between them, calibration."""
