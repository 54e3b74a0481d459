"""On the device: choose a variant, turn pixels into an answer. Not a place for torch, training or metrics."""
