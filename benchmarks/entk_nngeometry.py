"""The empirical kernel of all outputs by nngeometry: the Gram matrix of its hooks, of the same network and inputs."""

import json
import sys
import time

import entk_models
import torch
from nngeometry.gram import GramMatrix

work = json.load(sys.stdin)
_, params, shape = entk_models.MODELS[work["model"]]()
X = torch.tensor(entk_models.inputs(shape, work["n"]))


def dense(weight, bias=None):
    layer = torch.nn.Linear(*weight.shape, bias=bias is not None)
    return filled(layer, weight.T, bias)


def convolution(weight, bias):
    layer = torch.nn.Conv2d(weight.shape[2], weight.shape[3], 3, padding=1)
    return filled(layer, weight.transpose(3, 2, 0, 1), bias)


def filled(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight.copy()))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias.copy()))
    return layer


def mlp():
    layers = [dense(params[f"w{at}"], params[f"b{at}"]) for at in range(4)]
    return [part for layer in layers for part in (layer, torch.nn.ReLU())][:-1]


def cnn():
    layers = [convolution(params[f"w{at}"], params[f"b{at}"]) for at in range(3)]
    ends = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), dense(params["out"])]
    return [part for layer in layers for part in (layer, torch.nn.ReLU())] + ends


model = torch.nn.Sequential(*{"mlp": mlp, "cnn": cnn}[work["model"]]())
examples = X.permute(0, 3, 1, 2).contiguous() if X.ndim == 4 else X


def kernel():
    found = GramMatrix(model, (examples,), function=lambda x: model(x)).to_torch()  # (output, example, output, example)
    return found.permute(1, 0, 3, 2)


times = []
for _ in range(work["repeats"]):
    start = time.perf_counter()
    found = kernel()
    times.append(time.perf_counter() - start)
json.dump({"seconds": min(times), "block": found[:2, :, :2].detach().tolist()}, sys.stdout)
