"""One model's life: data, networks, objectives, training, evaluation; needs torch, numpy, safetensors."""
