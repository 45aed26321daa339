"""Writes foreign.h5 with h5py: a whole, tiny LLaMA-type model in the layout of a plain state dictionary dump – old-style
groups and headers, without checksums, and texts in a heap – as no file of this project's own is."""

import h5py
import numpy as np

CONFIG = (
    '{"model_type": "llama", "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 2, '
    '"num_key_value_heads": 1, "vocab_size": 5, "tie_word_embeddings": true}'
)
LAYER = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": (5, 4),
    LAYER + "input_layernorm.weight": (4,),
    LAYER + "post_attention_layernorm.weight": (4,),
    LAYER + "self_attn.q_proj.weight": (4, 4),
    LAYER + "self_attn.k_proj.weight": (2, 4),
    LAYER + "self_attn.v_proj.weight": (2, 4),
    LAYER + "self_attn.o_proj.weight": (4, 4),
    LAYER + "mlp.gate_proj.weight": (3, 4),
    LAYER + "mlp.up_proj.weight": (3, 4),
    LAYER + "mlp.down_proj.weight": (4, 3),
    "model.norm.weight": (4,),
}

with h5py.File("foreign.h5", "w") as f:
    f.attrs["config"] = CONFIG
    for number, (name, shape) in enumerate(SHAPES.items()):
        values = (np.arange(np.prod(shape)) * 7 + number) % 16 - 8
        compress = {"compression": "gzip", "chunks": (2, 2)} if "o_proj" in name else {}
        f.create_dataset(name, data=(values / 8).astype("<f4").reshape(shape), **compress)
