"""Every way of drawing a random number from a generator that one gets without asking."""

from __future__ import annotations

import random
import warnings
from random import gauss, randint, shuffle  # bound before any world of threads begins

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, random_split


def draw_all() -> dict[str, object]:
    """Something from every function that draws, by name; fit for JSON."""
    return {name: _plain(draw()) for name, draw in DRAWS.items()}


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.detach().double().reshape(-1).tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


X = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def _backward(reentrant):
    x = X.clone().requires_grad_()
    checkpoint(lambda x: F.dropout(x.sin()).cos(), x, use_reentrant=reentrant).sum().backward()
    return x.grad


def _nested():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "the API is in prototype stage"
        return F.dropout(torch.nested.nested_tensor([X, X])).to_padded_tensor(0.0)


def _loaded():
    return [batch.tolist() for batch in DataLoader(range(8), shuffle=True)]


DRAWS = {
    "rand": lambda: torch.rand(3),
    "rand double": lambda: torch.rand(3, dtype=torch.float64),
    "rand bfloat16": lambda: torch.rand(3, dtype=torch.bfloat16),
    "rand out": lambda: torch.rand(3, out=torch.empty(3)),
    "randn": lambda: torch.randn(40),
    "randn complex": lambda: torch.view_as_real(torch.randn(3, dtype=torch.cfloat)),
    "randint": lambda: torch.randint(2, 10, (3,)),
    "randperm": lambda: torch.randperm(9),
    "rand_like": lambda: torch.rand_like(X),
    "randn_like": lambda: torch.randn_like(X),
    "randint_like": lambda: torch.randint_like(X, 9),
    "normal, float": lambda: torch.normal(0.0, 1.0, (3,)),
    "normal, mean": lambda: torch.normal(X, 1.0),
    "normal, std": lambda: torch.normal(1.0, X),
    "normal, both": lambda: torch.normal(X, X),
    "normal, out": lambda: torch.normal(X, X, out=torch.empty(8)),
    "bernoulli": lambda: torch.bernoulli(X),
    "bernoulli, p": lambda: torch.bernoulli(X, 0.5),
    "bernoulli, out": lambda: torch.bernoulli(X, out=torch.empty(8)),
    "multinomial": lambda: torch.multinomial(X, 3),
    "multinomial, replacement": lambda: torch.multinomial(X, 3, True),
    "poisson": lambda: torch.poisson(X * 9),
    "binomial": lambda: torch.binomial(X * 0 + 9, X),
    "uniform_": lambda: X.clone().uniform_(1, 2),
    "normal_": lambda: X.clone().normal_(),
    "random_": lambda: X.clone().random_(),
    "random_, to": lambda: X.clone().random_(9),
    "random_, from": lambda: X.clone().random_(3, 9),
    "exponential_": lambda: X.clone().exponential_(),
    "geometric_": lambda: X.clone().geometric_(0.5),
    "cauchy_": lambda: X.clone().cauchy_(),
    "log_normal_": lambda: X.clone().log_normal_(),
    "bernoulli_": lambda: X.clone().bernoulli_(),
    "bernoulli_, tensor": lambda: torch.zeros(8).bernoulli_(X),
    "gamma": lambda: torch._standard_gamma(X),
    "dirichlet": lambda: torch.distributions.Dirichlet(X).sample(),
    "categorical": lambda: torch.distributions.Categorical(X).sample(),
    "dropout": lambda: F.dropout(X),
    "dropout, in place": lambda: F.dropout(X.clone(), inplace=True),
    "dropout, module": lambda: nn.Dropout()(X),
    "dropout, native": lambda: torch.native_dropout(X, 0.5, True)[0],
    "dropout, nested tensor": _nested,
    "alpha_dropout": lambda: F.alpha_dropout(X, training=True),
    "feature_alpha_dropout": lambda: F.feature_alpha_dropout(X.view(2, 4), training=True),
    "dropout1d": lambda: F.dropout1d(X.view(1, 2, 4)),
    "rrelu": lambda: F.rrelu(-X, training=True),
    "rrelu, in place": lambda: F.rrelu(-X, training=True, inplace=True),
    "gumbel_softmax": lambda: F.gumbel_softmax(X),
    "attention": lambda: F.scaled_dot_product_attention(*[X.view(1, 2, 4)] * 3, dropout_p=0.5),
    "multi-head attention": lambda: nn.MultiheadAttention(4, 2, 0.5)(*[X.view(1, 2, 4)] * 3)[0],
    "fractional_max_pool": lambda: F.fractional_max_pool2d(torch.rand(1, 6, 6), 2, 3),
    "lstm": lambda: nn.LSTM(4, 4, 2, dropout=0.5)(X.view(1, 2, 4))[0],
    "gru": lambda: nn.GRU(4, 4, 2, dropout=0.5)(X.view(1, 2, 4))[0],
    "linear": lambda: nn.Linear(3, 3).weight,
    "kaiming_normal_": lambda: nn.init.kaiming_normal_(torch.empty(3, 3)),
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(3, 3)),
    "orthogonal_": lambda: nn.init.orthogonal_(torch.empty(3, 3)),
    "sparse_": lambda: nn.init.sparse_(torch.empty(3, 3), 0.3),
    "vmap": lambda: torch.vmap(F.dropout, randomness="different")(X.view(2, 4)),
    "checkpoint": lambda: _backward(False),
    "checkpoint, reentrant": lambda: _backward(True),
    "data loader": _loaded,
    "random_split": lambda: list(random_split(range(8), [4, 4])[0]),
    "fork_rng": lambda: _forked(),
    "random": lambda: random.random(),
    "getrandbits": lambda: random.getrandbits(70),
    "randint, python": lambda: [random.randint(0, 99), randint(0, 99)],
    "gauss": lambda: [random.gauss(0, 1), gauss(0, 1), random.gauss(0, 1)],
    "choices": lambda: random.choices(range(99), k=4),
    "sample": lambda: random.sample(range(99), 4),
    "shuffle": lambda: [
        _shuffled(shuffle),
        _shuffled(random.shuffle),
        _shuffled(np.random.shuffle),
    ],
    "betavariate": lambda: random.betavariate(1, 2),
    "randbytes": lambda: list(random.randbytes(4)),
    "rand, numpy": lambda: np.random.rand(3),
    "randn, numpy": lambda: np.random.randn(3),
    "randint, numpy": lambda: np.random.randint(9, size=3),
    "choice, numpy": lambda: np.random.choice(9, 3),
    "permutation, numpy": lambda: np.random.permutation(9),
    "sample, numpy": lambda: np.random.sample(3),
    "ranf, numpy": lambda: np.random.ranf(3),
    "normal, numpy": lambda: np.random.normal(size=3),
}


def _forked():
    with torch.random.fork_rng():
        return torch.rand(3)


def _shuffled(function):
    items = list(range(9))
    function(items)
    return items
