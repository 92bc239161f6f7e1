"""The traced empirical kernel of a transformer by torch.func: its Jacobians contracted parameter by parameter."""

import json
import resource
import sys
import time

import torch
from torch.func import functional_call, jacrev, vmap

work = json.load(sys.stdin)
TOKENS, WIDTH, HEADS, HIDDEN, OUTPUTS = 64, 128, 4, 512, 10


class Encoder(torch.nn.Module):
    """Two layers of attention and of a perceptron, then the mean over tokens."""

    def __init__(self):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = torch.nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        return self.out(self.encoder(x).mean(1))


torch.manual_seed(0)
model = Encoder()
params = {name: value.detach() for name, value in model.named_parameters()}
X = torch.randn(work["n"], TOKENS, WIDTH)


def kernel():
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        jacobian = vmap(jacrev(lambda p, x: functional_call(model, p, (x[None],))[0]), (None, 0))(params, X)
    parts = (value.flatten(2) for value in jacobian.values())
    return sum(torch.einsum("nkp,mkp->nm", part, part) for part in parts) / OUTPUTS


before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for _ in range(work["repeats"]):
    start = time.perf_counter()
    kernel()
    times.append(time.perf_counter() - start)
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
json.dump({"seconds": min(times), "peak": peak}, sys.stdout)
