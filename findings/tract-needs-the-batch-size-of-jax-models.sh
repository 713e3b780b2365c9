#!/usr/bin/env bash
# tract cannot prepare a model that was converted from JAX as long as its batch dimension is open, although tract knows symbolic
# dimensions, and although the batch size changes nothing in the computation.
#
# Version:  tract 0.23.9 and magika 1.0.3 from PyPI. Its model standard_v3_3 has one input, of any number of rows of 2048 i32.
# Input:    the model as the package ships it; prepared as it is, and with the input fixed to 1,2048,i32.
# Guess:    both work: tract makes a symbol of the open dimension, and resolves it when the model runs.
# Seen:     the first fails: "shape input is variable, of variable length". The converter (jax2tf) computes the target shape of a
#           one-hot BroadcastTo from the shape of the input, so that not even its rank is known before the batch size is. With
#           the batch size fixed, all of it is folded into constants, and the model runs. Whoever embeds tract should prepare
#           a model for the shapes of the actual inputs, and keep the plan for the next call of the same shapes.
#
# Fails if tract prepares the open model or does not run the fixed one. Needs Python 3.11 or newer with venv; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

python3 -m venv env
timeout 300 env/bin/pip install --quiet --disable-pip-version-check tract==0.23.9 numpy==2.3.5
timeout 300 env/bin/pip install --quiet --disable-pip-version-check --no-deps magika==1.0.3

timeout 120 env/bin/python - env/lib/python3*/site-packages/magika/models/standard_v3_3/model.onnx <<'end'
import sys

import numpy
import tract


def load():
    return tract.onnx().load(sys.argv[1])


print("input:", load().input_fact(0))
try:
    load().into_model()
    sys.exit("tract prepares the open model by now")
except tract.TractError as error:
    reason = next(line for line in str(error).splitlines() if "shape input" in line)
    print("open:", reason.strip())

model = load()
model.set_input_fact(0, "1,2048,i32")
outputs = model.into_model().into_runnable().run([numpy.ones((1, 2048), dtype=numpy.int32)])
print("fixed: an output of the shape", outputs[0].to_numpy().shape)
assert outputs[0].to_numpy().shape == (1, 214)
end
