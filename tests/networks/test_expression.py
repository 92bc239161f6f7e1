"""Networks written as text: what is read, what is refused, and that nothing is ever run."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widthwise.activations import ACTIVATIONS
from widthwise.networks import MLP, parse_network

GOOD = {
    "mlp": MLP(),
    "mlp()": MLP(),
    " mlp ( ) ": MLP(),
    "mlp(width=512, depth=3, activation=gelu)": MLP(512, 3, "gelu"),
    "mlp(width=512, depth=3, activation='gelu')": MLP(512, 3, "gelu"),
    "mlp(64, 1, relu)": MLP(64, 1, "relu"),
    "mlp(64, depth=1)": MLP(64, 1),
    "mlp(weight_variance=1.5, bias_variance=+0.5)": MLP(weight_variance=1.5, bias_variance=0.5),
    "mlp(weight_variance=None, parameterisation=standard)": MLP(parameterisation="standard"),
    "mlp(\n  width=8,\n  depth=1,\n)": MLP(8, 1),
}


@pytest.mark.parametrize("text", GOOD)
def test_reads_a_network(text):
    assert parse_network(text) == GOOD[text]


@given(
    width=st.integers(1, 10**6),
    depth=st.integers(1, 50),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    weight_variance=st.floats(0, 1e6),
    bias_variance=st.floats(0, 1e6),
    parameterisation=st.sampled_from(["ntk", "standard"]),
)
def test_reads_back_what_was_written(**given):
    spec = MLP(**given)
    arguments = ", ".join(f"{field.name}={getattr(spec, field.name)}" for field in dataclasses.fields(spec))
    assert parse_network(f"mlp({arguments})") == spec


# Each text with what its message has to say: what came and, where there is one, the nearest right word.
BAD = {
    "": "cannot be read",
    "mlp(": "cannot be read",
    "mlp(width=3": "cannot be read",
    "mlp(width=1, width=2)": "width twice",
    "mlp(depth=2, 64)": "cannot be read",
    "mlp(lambda: 1)": "lambda: 1",
    "mlp\0()": "cannot be read",
    "mlp(activation='\ud800')": "cannot be read",
    "((((" * 200: "cannot be read",
    "mlp(" + "-" * 900 + "1)": "",
    "mlp(" + "1," * 600 + ")": "characters",
    "7": "no call of a builder",
    "[mlp()]": "no call of a builder",
    "mlp() + mlp()": "no call of a builder",
    "mlp().network()": "calls 'mlp().network'",
    "mlp()()": "calls 'mlp()'",
    "mpl(width=3)": "did you mean 'mlp'",
    "open('x')": "calls 'open'",
    "__import__('os').system('true')": "__import__('os').system",
    "eval('1')": "calls 'eval'",
    "os.system('true')": "calls 'os.system'",
    "(lambda: mlp())()": "calls",
    "mlp(width=__import__('os').getpid())": "__import__('os').getpid()",
    "mlp(width=os.getpid)": "'os.getpid'",
    "mlp(width=2**3)": "'2**3'",
    "mlp(width=[1])": "'[1]'",
    "mlp(width={'a': 1})": "as its width",
    "mlp(width=(w := 3))": "as its width",
    "mlp(width=[x for x in y])": "as its width",
    "mlp(width=f'{3}')": "as its width",
    "mlp(width=b'3')": "as its width",
    "mlp(width=3j)": "as its width",
    "mlp(width=...)": "as its width",
    "mlp(width=True)": "'True' as its width",
    "mlp(width=None)": "'None' as its width",
    "mlp(width=--3)": "as its width",
    "mlp(*widths)": "'*widths' as its width",
    "mlp(**options)": "unpacks '**options'",
    "mlp(wdith=3)": "did you mean 'width'",
    "mlp(zzz=3)": "'zzz'",
    "mlp(3, width=4)": "width twice",
    "mlp(1, 2, 3, 4, 5, 6, 7)": "7 arguments",
    "mlp(width=0)": "width=0",
    "mlp(width=2.5)": "'2.5' as its width. Its width is a whole number",
    "mlp(width=wide)": "'wide' as its width",
    "mlp(depth=0)": "depth=0",
    "mlp(weight_variance=-1)": "weight_variance=-1",
    "mlp(weight_variance=1e999)": "weight_variance=inf",
    "mlp(activation=thanh)": "did you mean 'tanh'",
    "mlp(activation=3)": "Its activation is a word",
    "mlp(weight_variance=x)": "Its weight_variance is a number or None",
    "mlp(parameterisation=ntkk)": "did you mean 'ntk'",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:40]))
def test_refuses_with_three_parts(text):
    with pytest.raises(ValueError, match=r"(?s).+\. .+\. .+\.$") as caught:
        parse_network(text)
    assert BAD[text] in str(caught.value)
    assert len(str(caught.value)) < 500


_PIECES = [
    "mlp",
    "(",
    ")",
    "width",
    "=",
    "3",
    ",",
    "**",
    "lambda x:",
    "__import__",
    ".",
    "'",
    "[",
    "]",
    "-",
    "0x",
    "\n",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(_PIECES)).map("".join)))
def test_any_text_is_a_network_or_refused(text):
    """No text leads anywhere but to a network or a ValueError."""
    try:
        spec = parse_network(text)
    except ValueError:
        return
    assert isinstance(spec, MLP)


def test_nothing_is_run(tmp_path):
    trace = tmp_path / "trace"
    for text in (
        f"mlp(width=open({str(trace)!r}, 'w'))",
        f"mlp(activation=__import__('pathlib').Path({str(trace)!r}).touch())",
    ):
        with pytest.raises(ValueError, match="as its"):
            parse_network(text)
    assert not trace.exists()
