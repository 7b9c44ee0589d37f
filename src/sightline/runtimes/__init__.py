"""An exported detector (`model.onnx`) run without torch: by ONNX Runtime, or by OpenVINO."""
