#!/usr/bin/env python3
"""Makes ops.bin: what each op gives, and its gradients, in PyTorch f64.

Needs torch and numpy; it writes beside itself. The container is told in golden_file.py. A case is
OP/NAME and holds these tensors:

  CASE/in/ARGUMENT   the arguments of the recording function qn_OP in engine/ops.h, by their names
                     there; floats are f32 values, so that an f32 run starts from the same numbers
  CASE/attrs         f64: the other arguments, in the order told at each function below
  CASE/out/RESULT    f64: the results
  CASE/dy/RESULT     f32: the gradient of the loss by each result; absent when the result is a loss
  CASE/grad/ARGUMENT f64: the gradient of the loss, sum of dy times result, by the argument

adamw and sgd: in/weights [n], in/grads [steps, n], in/lr, in/clip, in/apply [steps], in/segments
[k, 4] (offset, count, lr_scale, weight_decay); out/weights [steps, n].
"""

import math
import os

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import GoldenFile

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh")
UNARY = ("neg", "exp", "log", "sqrt", "square", "abs")
REDUCTIONS = ("sum", "mean", "max")
ALL_AXES = -100

out = GoldenFile()
random = np.random.default_rng(2024)


def normal(*shape, scale=1.0):
    return torch.tensor((scale * random.standard_normal(shape)).astype(np.float32)).double()


def positive(*shape):
    return torch.tensor(random.uniform(0.5, 2.0, shape).astype(np.float32)).double()


def integers(limit, *shape):
    return torch.tensor(random.integers(0, limit, shape), dtype=torch.int32)


def case(name, function, inputs, attrs=(), no_grad=(), loss=False):
    """function(**inputs) gives a dict of results; inputs that are None are absent."""
    inputs = {k: v for k, v in inputs.items() if v is not None}
    wanted = [k for k, v in inputs.items() if v.is_floating_point() and k not in no_grad]
    for k in inputs:
        out.add(f"{name}/in/{k}", inputs[k].float() if k in wanted or k in no_grad else inputs[k])
    for k in wanted:
        inputs[k] = inputs[k].clone().requires_grad_()
    out.add(f"{name}/attrs", attrs, "float64")
    results = function(**inputs)
    total = torch.zeros((), dtype=torch.float64)
    for k, y in results.items():
        out.add(f"{name}/out/{k}", y, "float64")
        dy = torch.ones((), dtype=torch.float64) if loss else normal(*y.shape)
        if not loss:
            out.add(f"{name}/dy/{k}", dy.float())
        total = total + (y * dy).sum()
    if wanted and total.requires_grad:
        for k, g in zip(wanted, torch.autograd.grad(total, [inputs[k] for k in wanted])):
            out.add(f"{name}/grad/{k}", g, "float64")


def activate(x, kind):
    if kind == "none":
        return x
    if kind.startswith("gelu"):
        return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")
    return getattr(F, kind)(x) if kind in ("relu", "silu") else getattr(torch, kind)(x)


# ---- elementwise, reductions ----


def elementwise():
    shapes = {
        "same": ((3, 5), (3, 5)),
        "row": ((3, 5), (5,)),
        "column": ((3, 5), (3, 1)),
        "scalar": ((3, 5), ()),
        "outer": ((4, 1), (1, 3)),
        "middle": ((2, 3, 4), (2, 1, 4)),
    }
    functions = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
    }
    for op, f in functions.items():
        for name, (a, b) in shapes.items():
            inputs = {"a": normal(*a), "b": positive(*b) if op == "div" else normal(*b)}
            case(f"{op}/{name}", lambda a, b, f=f: {"y": f(a, b)}, inputs)
    for kind in UNARY:  # attrs: kind
        f = getattr(torch, kind)
        case(
            f"unary_op/{kind}",
            lambda x, f=f: {"y": f(x)},
            {"x": positive(4, 7)},
            [UNARY.index(kind)],
        )
    # attrs: factor, shift
    case("scale/affine", lambda x: {"y": -1.75 * x + 0.5}, {"x": normal(3, 5)}, [-1.75, 0.5])


def reductions():  # attrs: kind, axis, keep
    def reduce(x, kind, axis, keep):
        if axis == ALL_AXES:
            return {"y": getattr(x, kind)()}
        y = getattr(x, kind)(dim=axis, keepdim=keep)
        return {"y": y.values if kind == "max" else y}

    for kind in REDUCTIONS:
        for axis, keep in ((0, False), (1, True), (-1, False), (ALL_AXES, False)):
            name = f"reduce/{kind}_{'all' if axis == ALL_AXES else axis}"
            attrs = [REDUCTIONS.index(kind), axis, keep]
            f = lambda x, k=kind, a=axis, p=keep: reduce(x, k, a, p)
            case(name, f, {"x": normal(3, 4, 5)}, attrs)


def concatenation():  # attrs: axis
    for axis in (0, 1, 2):
        shapes = [[2, 3, 4] for _ in range(3)]
        for i, s in enumerate(shapes):
            s[axis] += i
        inputs = {f"x{i}": normal(*s) for i, s in enumerate(shapes)}
        f = lambda x0, x1, x2, axis=axis: {"y": torch.cat((x0, x1, x2), dim=axis)}
        case(f"concat/axis{axis}", f, inputs, [axis])


# ---- linear, matmul ----


def linear():  # attrs: activation
    def apply(x, w, b=None, residual=None, kind="none"):
        y = activate(F.linear(x, w, b), kind)
        return {"y": y if residual is None else y + residual}

    for i, kind in enumerate(ACTIVATIONS):
        inputs = {"x": normal(5, 9), "w": normal(7, 9, scale=0.4), "b": normal(7)}
        case(f"linear/{kind}", lambda kind=kind, **a: apply(**a, kind=kind), inputs, [i])
    inputs = {"x": normal(5, 9), "w": normal(7, 9)}
    case("linear/no_bias", apply, inputs, [0])
    inputs = {"x": normal(2, 3, 9), "w": normal(7, 9), "b": normal(7), "residual": normal(2, 3, 7)}
    case("linear/residual", apply, inputs, [0])
    inputs = {k: v.clone() for k, v in inputs.items()}
    case("linear/gelu_residual", lambda **a: apply(**a, kind="gelu"), inputs, [1])
    inputs = {"x": normal(1, 33), "w": normal(65, 33, scale=0.2), "b": normal(65)}
    case("linear/odd", lambda **a: apply(**a, kind="silu"), inputs, [4])


def matmul():  # attrs: transpose_a, transpose_b
    for batch in ((), (3,), (2, 3)):
        for ta in (0, 1):
            for tb in (0, 1):
                a = normal(*batch, *((6, 4) if ta else (4, 6)))
                b = normal(*batch, *((5, 6) if tb else (6, 5)))

                def apply(a, b, ta=ta, tb=tb):
                    return {"y": (a.mT if ta else a) @ (b.mT if tb else b)}

                name = f"matmul/batch{len(batch)}_{'t' if ta else 'n'}{'t' if tb else 'n'}"
                case(name, apply, {"a": a, "b": b}, [ta, tb])


# ---- lookup, norms, activations ----


def embedding():
    def apply(table, ids, positions=None, start=None):
        y = F.embedding(ids.long(), table)
        if positions is not None:
            first = int(start) if start is not None else 0
            y = y + positions[first : first + ids.shape[-1]]
        return {"y": y}

    ids = integers(11, 2, 5)
    case("embedding/plain", apply, {"ids": ids, "table": normal(11, 6)})
    inputs = {"ids": ids, "table": normal(11, 6), "positions": normal(5, 6)}
    case("embedding/positions", apply, inputs)
    inputs = {"ids": ids, "table": normal(11, 6), "positions": normal(8, 6)}
    inputs["start"] = torch.tensor(2, dtype=torch.int32)
    case("embedding/start", apply, inputs)


def norms():  # attrs: eps
    def layernorm(x, w, b, residual=None):
        h = x if residual is None else x + residual
        y = F.layer_norm(h, h.shape[-1:], w, b, 1e-5)
        return {"y": y} if residual is None else {"y": y, "h": h}

    def rmsnorm(x, w, residual=None):
        h = x if residual is None else x + residual
        y = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * w
        return {"y": y} if residual is None else {"y": y, "h": h}

    for name, shape in (("plain", (4, 9)), ("odd", (2, 3, 33))):
        x, w, b = 3 * normal(*shape) + 1, normal(shape[-1]), normal(shape[-1])
        x = x.float().double()
        case(f"layernorm/{name}", layernorm, {"x": x, "w": w, "b": b}, [1e-5])
        case(f"rmsnorm/{name}", rmsnorm, {"x": x, "w": w}, [1e-6])
        inputs = {"x": x, "residual": normal(*shape), "w": w, "b": b}
        case(f"layernorm/{name}_residual", layernorm, inputs, [1e-5])
        inputs = {"x": x, "residual": normal(*shape), "w": w}
        case(f"rmsnorm/{name}_residual", rmsnorm, inputs, [1e-6])


def activations():
    for i, kind in enumerate(ACTIVATIONS):  # attrs: kind
        x = torch.cat((normal(20, scale=2.0), torch.tensor([-30.0, -9.0, -0.0, 9.0, 30.0])))
        f = lambda x, kind=kind: {"y": activate(x, kind)}
        if kind != "none":
            case(f"activate/{kind}", f, {"x": x.double().reshape(5, 5)}, [i])
    inputs = {"gate": normal(3, 10), "up": normal(3, 10)}
    case("swiglu/plain", lambda gate, up: {"y": F.silu(gate) * up}, inputs)
    case("softmax/plain", lambda x: {"y": torch.softmax(x, -1)}, {"x": normal(4, 11, scale=3.0)})
    large = normal(3, 5) + torch.tensor([[-300.0], [0.0], [300.0]])
    large = large.float().double()
    case("softmax/large", lambda x: {"y": torch.softmax(x, -1)}, {"x": large})


# ---- attention, rope ----


def attend(q, k, v, documents=None, start=None, causal=True, scale=0.0):
    t, s, heads, groups = q.shape[1], k.shape[1], q.shape[2], k.shape[2]
    k, v = (x.repeat_interleave(heads // groups, dim=2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) * (scale or 1 / math.sqrt(q.shape[-1]))
    first = int(start) if start is not None else s - t
    visible = torch.ones(t, s, dtype=torch.bool)
    if causal:
        visible = torch.arange(s)[None, :] <= first + torch.arange(t)[:, None]
    visible = visible.expand(q.shape[0], 1, t, s)
    if documents is not None:
        visible = visible & (documents[:, None, :, None] == documents[:, None, None, :])
    some = visible.any(-1, keepdim=True)
    scores = scores.masked_fill(~visible, -math.inf).masked_fill(~some, 0.0)
    weights = torch.softmax(scores, -1).masked_fill(~visible, 0.0)
    return {"o": torch.einsum("bhts,bshd->bthd", weights, v)}


def attention():  # attrs: scale, dropout, causal
    def qkv(b, t, s, h, g, d):
        return {"q": normal(b, t, h, d), "k": normal(b, s, g, d), "v": normal(b, s, g, d)}

    plain = qkv(1, 6, 6, 2, 2, 4)
    torch_o = F.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in plain.values()), is_causal=True
    )
    assert (attend(**plain)["o"] - torch_o.transpose(1, 2)).abs().max() < 1e-14
    free = lambda **a: attend(**a, causal=False)
    case("attention/causal", attend, plain, [0, 0, 1])
    case("attention/full", free, qkv(2, 5, 7, 2, 2, 4), [0, 0, 0])
    case("attention/grouped", attend, qkv(2, 7, 7, 6, 2, 4), [0, 0, 1])
    case("attention/multi_query", attend, qkv(1, 5, 5, 3, 1, 6), [0, 0, 1])
    scaled = lambda **a: attend(**a, scale=0.3)
    case("attention/scale", scaled, qkv(1, 5, 5, 2, 2, 4), [0.3, 0, 1])
    documents = torch.tensor([[0] * 3 + [1] * 4 + [2], [5] * 1 + [6] * 7], dtype=torch.int32)
    inputs = {**qkv(2, 8, 8, 4, 2, 4), "documents": documents}
    case("attention/documents", attend, inputs, [0, 0, 1])
    case("attention/documents_full", free, {**inputs}, [0, 0, 0])
    inputs = {**qkv(2, 3, 12, 4, 2, 4), "start": torch.tensor(4, dtype=torch.int32)}
    case("attention/cache", attend, inputs, [0, 0, 1])
    case("attention/longer_keys", attend, qkv(1, 3, 9, 2, 2, 4), [0, 0, 1])
    case("attention/sees_no_key", attend, qkv(1, 5, 3, 2, 2, 4), [0, 0, 1])
    case("attention/tile", attend, qkv(1, 67, 67, 2, 1, 8), [0, 0, 1])


def rope():  # attrs: theta
    def rotate(x, positions=None, start=None, theta=1e4):
        t, d = x.shape[1], x.shape[3]
        if positions is None:
            positions = torch.arange(t)[None] + (int(start) if start is not None else 0)
        inverse = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        angle = positions.double()[:, :, None, None] * inverse
        cos, sin = angle.cos(), angle.sin()
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return {"y": torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)}

    for name, theta in (("theta_1e4", 1e4), ("theta_5e5", 5e5)):
        f = lambda theta=theta, **a: rotate(**a, theta=theta)
        case(f"rope/{name}", f, {"x": normal(2, 5, 3, 8)}, [theta])
    inputs = {"x": normal(2, 5, 3, 8), "positions": integers(500, 2, 5)}
    case("rope/positions", rotate, inputs, [1e4])
    inputs = {"x": normal(2, 5, 3, 8), "start": torch.tensor(17, dtype=torch.int32)}
    case("rope/start", rotate, inputs, [1e4])


# ---- losses ----


def losses():
    def entropy(logits, targets, inv_n, smoothing=0.0):
        return {
            "loss": inv_n
            * F.cross_entropy(
                logits,
                targets.long(),
                ignore_index=-100,
                reduction="sum",
                label_smoothing=smoothing,
            )
        }

    def linear_entropy(x, w, targets, inv_n, b=None, smoothing=0.0):
        return entropy(F.linear(x, w, b), targets, inv_n, smoothing)

    def mse(y, target, inv_n):
        real = ~torch.isnan(target[:, 0])
        return {"loss": inv_n * (y[real] - target[real]).pow(2).sum()}

    targets = integers(13, 9)
    ignored = targets.clone()
    ignored[[1, 4, 8]] = -100
    inv9, inv6 = torch.tensor(1 / 9).double(), torch.tensor(1 / 6).double()
    fixed = dict(no_grad=("inv_n",), loss=True)
    for name, y, n, smoothing in (
        ("plain", targets, inv9, 0.0),
        ("ignore", ignored, inv6, 0.0),
        ("smoothing", ignored, inv6, 0.1),
        ("all_ignored", torch.full_like(targets, -100), inv9, 0.1),
    ):  # attrs: ignore_index, label_smoothing, chunk
        attrs = [-100, smoothing, 0]
        f = lambda s=smoothing, **a: entropy(**a, smoothing=s)
        inputs = {"logits": normal(9, 13, scale=3.0), "targets": y, "inv_n": n}
        case(f"cross_entropy/{name}", f, inputs, attrs, **fixed)
        for b, chunk in ((None, 0), (normal(13), 4)):
            attrs = [-100, smoothing, chunk]
            f = lambda s=smoothing, **a: linear_entropy(**a, smoothing=s)
            inputs = {"x": normal(9, 6), "w": normal(13, 6), "b": b, "targets": y, "inv_n": n}
            name2 = f"linear_cross_entropy/{name}{'_bias_chunks' if chunk else ''}"
            case(name2, f, inputs, attrs, **fixed)

    fixed = dict(no_grad=("target", "inv_n"), loss=True)
    target = normal(7, 3)
    inputs = {"y": normal(7, 3), "target": target, "inv_n": torch.tensor(1 / 7).double()}
    case("mse/plain", mse, inputs, **fixed)
    padded = target.clone()
    padded[5:] = math.nan
    inputs = {"y": normal(7, 3), "target": padded, "inv_n": torch.tensor(0.2).double()}
    case("mse/padded", mse, inputs, **fixed)

    def accuracy(logits, targets):
        return {"y": (logits.argmax(-1) == targets).sum().double()}

    logits = normal(9, 5)
    logits[2, 3] = logits[2, 1] = 9.0  # a tie: the first counts
    labels = logits.argmax(-1).int()
    labels[[0, 6]] = (labels[[0, 6]] + 1) % 5
    labels[4] = -100
    inputs = {"logits": logits, "targets": labels}
    case("accuracy/ties", accuracy, inputs, [-100], no_grad=("logits",))  # attrs: ignore_index


# ---- optimizers ----


def updates():
    n, steps = 37, 6
    segments = [(0, 20, 1.0, 0.1), (20, 12, 0.5, 0.0), (32, 5, 2.0, 0.03)]

    def run(name, make, attrs, apply=None, clip=None, decay=True):
        rules = [(a, c, s, wd if decay else 0.0) for a, c, s, wd in segments]
        weights, grads = normal(n), normal(steps, n)
        apply, clip = apply or [1] * steps, clip or [1.0] * steps
        rates = [0.01 * 2.0**-s for s in range(steps)]
        parts = [weights[a : a + c].clone() for a, c, _, _ in rules]
        optimizer = make(
            [{"params": [p], "weight_decay": r[3], "lr": 0.0} for p, r in zip(parts, rules)]
        )
        history = []
        for s in range(steps):
            for group, p, r in zip(optimizer.param_groups, parts, rules):
                group["lr"] = rates[s] * r[2]
                p.grad = clip[s] * grads[s, r[0] : r[0] + r[1]]
            if apply[s]:
                optimizer.step()
            history.append(torch.cat(parts))
        for k, v in (("weights", weights), ("grads", grads)):
            out.add(f"{name}/in/{k}", v.float())
        for k, v in (("lr", rates), ("clip", clip), ("apply", apply), ("segments", rules)):
            out.add(f"{name}/in/{k}", v, "float64")
        out.add(f"{name}/attrs", attrs, "float64")
        out.add(f"{name}/out/weights", torch.stack(history), "float64")

    for name, betas, eps, options in (  # attrs: beta1, beta2, eps
        ("usual", (0.9, 0.95), 1e-8, {}),
        ("defaults", (0.9, 0.999), 1e-8, {}),
        ("large_eps", (0.8, 0.9), 1e-2, {"decay": False}),
        (
            "guarded",
            (0.9, 0.95),
            1e-8,
            {"apply": [1, 0, 1, 1, 0, 1], "clip": [1, 1, 0.5, 0.25, 1, 1]},
        ),
    ):
        make = lambda g, betas=betas, eps=eps: torch.optim.AdamW(g, betas=betas, eps=eps)
        run(f"adamw/{name}", make, [*betas, eps], **options)
    for name, momentum, dampening, nesterov, options in (  # attrs: momentum, dampening, nesterov
        ("plain", 0.0, 0.0, False, {"decay": False}),
        ("decay", 0.0, 0.0, False, {}),
        ("momentum", 0.9, 0.0, False, {}),
        ("nesterov", 0.9, 0.0, True, {}),
        ("dampening", 0.8, 0.3, False, {"decay": False}),
        ("guarded", 0.9, 0.0, True, {"apply": [0, 1, 1, 0, 1, 1], "clip": [1, 1, 0.5, 0.25, 1, 1]}),
    ):
        make = lambda g, m=momentum, d=dampening, v=nesterov: torch.optim.SGD(
            g, lr=1.0, momentum=m, dampening=d, nesterov=v
        )
        run(f"sgd/{name}", make, [momentum, dampening, nesterov], **options)


def main():
    elementwise()
    reductions()
    concatenation()
    linear()
    matmul()
    embedding()
    norms()
    activations()
    attention()
    rope()
    losses()
    updates()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ops.bin")
    print(out.write(path), "bytes,", len(out.tensors), "tensors")


if __name__ == "__main__":
    main()
