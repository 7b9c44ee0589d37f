"""A detector as a file that needs neither its code nor, as ONNX, torch: its graph, checked against the detector itself."""
