"""Writes the HDF5 files of this folder with h5py. Element i of a tensor is a function of the tensor's canonical name,
so that the tests know every value: ((sum of the name's bytes + 7 i) mod 251 - 125) / 64, exact in all types."""

import h5py
import numpy as np

CONFIG = '{"hidden_size": 3, "note": "größer"}'
SHAPES = {
    "model.embed_tokens.weight": (5, 3),
    "model.layers.0.self_attn.q_proj.weight": (3, 3),
    "model.layers.2.self_attn.q_proj.weight": (3, 3),
    "model.layers.10.self_attn.q_proj.weight": (3, 3),
    "model.norm.weight": (3,),
    "lm_head.weight": (5, 3),
}


def values(name, shape, dtype="<f4"):
    count = int(np.prod(shape))
    return (((sum(name.encode()) + 7 * np.arange(count)) % 251 - 125) / 64).reshape(shape).astype(dtype)


def dump(group, rename=lambda name: name, dtype="<f4"):
    for name, shape in SHAPES.items():
        group[rename(name)] = values(name, shape, dtype)


def bare(name):
    return name.removeprefix("model.")


def nested(name):
    return name.replace(".", "/")


with h5py.File("flat-root.h5", "w") as f:
    dump(f, dtype=">f4")
    f.attrs["config"] = CONFIG
    f["step"] = 7
    f.create_group("empty")
    f["optimizer/m/model.norm.weight"] = np.zeros(3, "<f4")

with h5py.File("flat-weights.h5", "w") as f:
    dump(f.create_group("weights"))
    f["weights"].attrs["config"] = np.bytes_(CONFIG.encode())

with h5py.File("flat-state_dict.h5", "w") as f:
    dump(f.create_group("state_dict"))
    f["config"] = CONFIG
    f["tokenizer"] = np.frombuffer(b'{"model": {}}', np.uint8)

with h5py.File("flat-other.h5", "w") as f:
    dump(f.create_group("run/seven"))
    f["run/seven/config"] = np.bytes_(CONFIG.encode())

with h5py.File("nested-root.h5", "w") as f:
    dump(f, nested)
    f.attrs["config.json"] = CONFIG
    f["model/loop"] = h5py.SoftLink("/model")
    f["model/nowhere"] = h5py.SoftLink("/gone")
    f["model/layers/up"] = f["model"]

with h5py.File("nested-group.h5", "w") as f:
    dump(f.create_group("model"), nested)

with h5py.File("nested-bare.h5", "w") as f:
    dump(f.create_group("weights"), lambda name: nested(bare(name)))

with h5py.File("bare-root.h5", "w") as f:
    dump(f, bare)

with h5py.File("bare-model.h5", "w") as f:
    dump(f.create_group("model"), bare)

with h5py.File("wrapped.h5", "w") as f:
    dump(f, lambda name: "module._orig_mod." + name.replace("layers.2.", "layers.2._checkpoint_wrapped_module."))

with h5py.File("reference.h5", "w") as f:
    dump(f.create_group("model"))
    for group in ["reference/grad", "optimizer/m", "optimizer/v"]:
        for name, shape in SHAPES.items():
            f[f"{group}/{name}"] = np.zeros(shape, "<f4")
    f["reference/grad/model.layers.99.mlp.up_proj.weight"] = np.zeros((1, 1), "<f4")
    f["reference/input_ids"] = np.zeros((2, 3), np.int64)

with h5py.File("two.h5", "w") as f:
    dump(f.create_group("one"))
    dump(f.create_group("other"))

with h5py.File("twice.h5", "w") as f:
    dump(f)
    f["module.model.norm.weight"] = np.zeros(3, "<f4")

with h5py.File("gpt2.h5", "w") as f:
    for name, shape in {"transformer.wte.weight": (5, 3), "transformer.h.0.attn.c_attn.weight": (3, 9)}.items():
        f[f"model/{name}"] = values(name, shape)
        f[f"reference/grad/{name}"] = np.zeros(shape, "<f4")

with h5py.File("other-family.h5", "w") as f:
    f["net/encoder.weight"] = values("encoder.weight", (2, 3))
    f["labels"] = np.arange(3)

with h5py.File("nothing.h5", "w") as f:
    f["labels"] = np.arange(3)

with h5py.File("newer.h5", "w") as f:
    f.attrs["format"] = "cola-checkpoint"
    f.attrs["format_version"] = 2


def bfloat16(big):
    kind = (h5py.h5t.IEEE_F32BE if big else h5py.h5t.IEEE_F32LE).copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


with h5py.File("types.h5", "w", libver="earliest") as f:
    shape = (7, 5)
    for code in ["f8", "f4", "f2"]:
        for order, letter in [("le", "<"), ("be", ">")]:
            name = f"layers.0.{code}.{order}"
            f[name] = values("model." + name, shape, letter + code)
    for order in ["le", "be"]:
        name = f"layers.0.bf16.{order}"
        space = h5py.h5s.create_simple(shape)
        dataset = h5py.h5d.create(f.id, name.encode(), bfloat16(order == "be"), space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values("model." + name, shape))
    for options in [{}, {"shuffle": True}, {"compression": 4}, {"compression": 4, "shuffle": True, "fletcher32": True}]:
        name = "layers.1." + "".join(options) + "x"
        f.create_dataset(name, data=values("model." + name, shape), chunks=(2, 3), **options)
    f["layers.2.scalar"] = values("model.layers.2.scalar", (), "<f4")
    f.create_dataset("layers.2.empty", shape=(0, 4), dtype="<f4")
    f["layers.2.integers"] = np.arange(6, dtype="<i8").reshape(2, 3)
    f["layers.2.extended"] = np.zeros(3, np.longdouble)
    f.create_dataset("layers.3.unwritten", shape=shape, dtype="<f4")
    f.create_dataset("layers.3.partly", shape=shape, dtype="<f4", chunks=(2, 3), fletcher32=True)[:2] = 1
    f["embed_tokens.weight"] = values("model.embed_tokens.weight", shape)

with h5py.File("integers.h5", "w") as f:
    for code in ["i1", "u1", "<i2", ">u2", "<i4", "<u4", ">i8", "<u8"]:
        top = np.iinfo(code).max if code != "<u8" else 2**63 - 1
        low = np.iinfo(code).min
        f["kinds/" + code] = np.array([[low, 0, 1], [2, 100, top]], code)
    f["line"] = np.arange(10, dtype="u2")
    f["huge"] = np.array([1, 2**63], "u8")
    f["floats"] = np.zeros(3)
    f["cube"] = np.zeros((1, 2, 3), "i4")
    f["one"] = 3
